"""A templated request: valid templates, the encoding of each place, and the outcomes of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from providers.http import Http, HttpRequestOptions
from relay.errors import ConfigError
from relay.http.response_body import DAMAGED, TOO_LONG
from relay.message import Message, parse_envelope
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Request, Response
from relay.settings.load import loads

NOW = 1_614_265_330.0
URL = "https://api.example.com/send"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def from_yaml(text: str, **env: str) -> Http:
    """The adapter of a provider `chat` whose options are this text."""
    options = loads(a_file(text), "relay.yaml", {"http": HttpRequestOptions}, env).providers["chat"]
    return Http("chat", options, clock=lambda: NOW)


def a_file(text: str) -> str:
    lines = "".join(f"    {line}\n" for line in text.strip().splitlines())
    return f"queues: [{{name: q}}]\nproviders:\n  chat:\n    type: http\n{lines}"


def an_http(**options: Any) -> Http:
    return from_yaml(yaml.safe_dump({"url": URL, **options}, allow_unicode=True))


def problems(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_yaml(text, **env)
    return list(caught.value.problems)


def a_message(payload: Any, **envelope: Any) -> Message:
    """A message whose payload is this object, or exactly this text."""
    written = payload if isinstance(payload, str) else json.dumps(payload)
    head = json.dumps({"id": "order-17", **envelope})[:-1]
    return parse_envelope(f'{head}, "payload": {written}}}'.encode(), "notifications", NOW)[1]


def sent(adapter: Http, payload: Any, **envelope: Any) -> Request:
    """The request, of a message that the adapter takes."""
    message = a_message(payload, **envelope)
    assert adapter.check(message) is None
    return adapter.request([message])


def refused(adapter: Http, payload: Any, **envelope: Any) -> str:
    rejected = adapter.check(a_message(payload, **envelope))
    assert rejected is not None
    return rejected.reason


# JSON


@pytest.mark.parametrize(
    ("template", "payload", "body"),
    [
        ("${payload.n}", '{"n": 3}', "3"),
        ("${payload.n}", '{"n": 1.10}', "1.10"),
        ("${payload.n}", '{"n": 123456789012345678901234567890}', "123456789012345678901234567890"),
        ("${payload.n}", '{"n": "3"}', '"3"'),
        ("${payload.n}", '{"n": null}', "null"),
        ("${payload.n}", '{"n": false}', "false"),
        ("${payload.n}", '{"n": {"b": 1.0,  "a": ["\\u00e9"]}}', '{"b": 1.0,  "a": ["\\u00e9"]}'),
        ("${payload.a.b.c}", '{"a": {"b": {"c": [1]}}}', "[1]"),
        ("${payload.user-id}", '{"user-id": 7}', "7"),
        ("n: ${payload.n}!", '{"n": 3}', '"n: 3!"'),
        ("n: ${payload.n}", '{"n": 1.10}', '"n: 1.10"'),
        ("n: ${payload.n}", '{"n": true}', '"n: true"'),
        ("n: ${payload.n}", '{"n": {"a":"b"}}', '"n: {\\"a\\":\\"b\\"}"'),
        ("${payload.a}${payload.b}", '{"a": "x\\"", "b": "\\n"}', '"x\\"\\n"'),
        ("$${payload.n}", '{"n": 3}', '"${payload.n}"'),
        ("${payload.n:-none}", "{}", '"none"'),
        ("${payload.n:-}", '{"n": null}', '""'),
        ("${payload.n:-0}", "{}", "0"),
        ("${payload.n:-true}", "{}", "true"),
        ("${payload.n:-null}", "{}", "null"),
        ("${payload.blocks:-[]}", "{}", "[]"),
        ("${payload.blocks:-[]}", '{"blocks": null}', "[]"),
        ("${payload.blocks:-[]}", '{"blocks": [{"type": "divider"}]}', '[{"type": "divider"}]'),
        ("${payload.n:-[draft]}", "{}", '"[draft]"'),
        ("${payload.meta:-{}}", "{}", "{}"),
        ("n: ${payload.n:-{}}", "{}", '"n: {}"'),
        ('${payload.n:-"0"}', "{}", '"\\"0\\""'),
        ("${payload.n:-0}", '{"n": "x"}', '"x"'),
        ("n: ${payload.n:-none}", '{"n": ""}', '"n: none"'),
        ("${payload.a.b:-none}", '{"a": 3}', '"none"'),
    ],
)
def test_a_reference_that_stands_alone_keeps_its_type_and_others_are_text(
    template: str, payload: str, body: str
) -> None:
    request = sent(an_http(body={"x": [template]}), payload)
    assert request.body.decode() == f'{{"x":[{body}]}}'
    assert request.headers["content-type"] == "application/json"


def test_template_values_other_than_text_stay_unchanged() -> None:
    body = {"n": 3, "on": True, "off": None, "list": [1.5, {"a": "b"}]}
    assert json.loads(sent(an_http(body=body), {}).body) == body


def test_the_payload_is_the_body_if_the_template_has_none() -> None:
    request = sent(an_http(), '{"b": 1.10,  "a": []}')
    assert request.body == b'{"b": 1.10,  "a": []}'
    assert (request.url, request.method) == (URL, "POST")
    assert sent(an_http(method="GET"), {"a": 1}).body == b""
    assert "content-type" not in sent(an_http(method="DELETE"), {"a": 1}).headers


# Other places


def test_a_form_and_a_text_are_filled_in() -> None:
    form = sent(
        an_http(form={"to": "${payload.to}", "text": "a&b ${payload.n}"}), {"to": "x&y=ü +", "n": [1]}
    )
    assert dict(parse_qsl(form.body.decode())) == {"to": "x&y=ü +", "text": "a&b [1]"}
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"
    text = sent(an_http(body="Hello ${payload.name}\n"), {"name": "Zoë"})
    assert text.body.decode() == "Hello Zoë\n"
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert sent(an_http(body=""), {}).body == b""


@pytest.mark.parametrize(
    ("body", "payload", "sent_body"),
    [
        ('{"text": "${payload.t}"}', {"t": 'a"b\\c\n'}, {"text": 'a"b\\c\n'}),
        ('{"text": "${payload.t}"}', {"t": '", "admin": true, "x": "'}, {"text": '", "admin": true, "x": "'}),
        ('{"text": "\\"${payload.t}\\""}', {"t": "a"}, {"text": '"a"'}),
        ('{"text": "${payload.t}"}', {"t": {"a": "b"}}, {"text": '{"a": "b"}'}),
        ('{"n": ${payload.n}, "t": ["${payload.t:-x}"]}', {"n": 3}, {"n": 3, "t": ["x"]}),
        ('{"n": ${payload.n}}', {"n": "1, 2"}, {"n": "1, 2"}),
        ("[${payload.n}]", {"n": {"a": 'b"'}}, [{"a": 'b"'}]),
    ],
)
def test_a_json_template_stays_json_with_any_message(
    body: str, payload: dict[str, Any], sent_body: Any
) -> None:
    assert json.loads(sent(an_http(body=body), payload).body) == sent_body


def test_a_text_that_is_no_json_takes_values_as_they_are() -> None:
    for body in ('say "${payload.t}"', "{${payload.t}}", "[${payload.t}", "{'a': '${payload.t}'}"):
        expected = body.replace("${payload.t}", 'a"b')
        assert sent(an_http(body=body), {"t": 'a"b'}).body.decode() == expected


@pytest.mark.parametrize("value", ["../../admin", "a/..", "..\\admin", "a/./b", "x/%2e%2E/y", "..", "."])
def test_a_message_cannot_walk_through_the_path(value: str) -> None:
    adapter = an_http(url="https://api.example.com/rooms/${payload.p}/send?q=${payload.q:-}")
    assert "a message cannot put . or .. into the path" in refused(adapter, {"p": value})
    query = sent(adapter, {"p": "a", "q": value}).url
    assert query.startswith("https://api.example.com/rooms/a/send?q=")


@pytest.mark.parametrize(
    ("value", "path", "query"),
    [
        ("a", "a", "a"),
        ("a b/c?d#e&f=g", "a%20b%2Fc%3Fd%23e&f=g", "a%20b/c%3Fd%23e%26f%3Dg"),
        ("ü%2F..\\", "%C3%BC%252F..%5C", "%C3%BC%252F..%5C"),
        ("+@:", "+@:", "%2B@:"),
        (7, "7", "7"),
        ("\r\n", "%0D%0A", "%0D%0A"),
    ],
)
def test_values_in_a_url_are_percent_encoded(value: Any, path: str, query: str) -> None:
    adapter = an_http(url="https://api.example.com/${payload.x}/send?to=${payload.x}&v=1")
    assert sent(adapter, {"x": value}).url == f"https://api.example.com/{path}/send?to={query}&v=1"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_no_value_leaves_its_segment_or_its_parameter(value: str) -> None:
    adapter = an_http(url="https://api.example.com/a/${payload.x}/b?c=${payload.x}&d=e")
    message = a_message({"x": value})
    if value in (".", ".."):
        assert adapter.check(message) == Rejected("url: a message cannot put . or .. into the path")
        return
    parts = urlsplit(adapter.request([message]).url)
    assert parts.netloc == "api.example.com"
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "a", value, "b"]
    assert parse_qsl(parts.query, keep_blank_values=True) == [("c", value), ("d", "e")]


@pytest.mark.parametrize(
    ("options", "payload", "reason"),
    [
        ({"body": {"t": "${payload.text}"}}, {}, "payload.text: missing"),
        ({"body": {"t": "${payload.a.b}"}}, {"a": 3}, "payload.a.b: missing"),
        ({"body": "x ${payload.a}"}, {"a": None}, "payload.a: is null"),
        ({"body": {"t": "${message.ttl}"}}, {}, "message.ttl: missing"),
        (
            {"headers": {"X-A": "${payload.a}"}},
            {"a": {}},
            "payload.a: must be a text, a number, true or false",
        ),
        (
            {"headers": {"X-A": "a ${payload.a}"}},
            {"a": "x\r\nX-B: y"},
            "payload.a: has line breaks or characters that the header X-A cannot hold",
        ),
        (
            {"headers": {"X-A": "${payload.a}"}},
            {"a": "☃"},
            "payload.a: has line breaks or characters that the header X-A cannot hold",
        ),
        ({"url": f"{URL}/${{payload.a}}"}, {"a": ""}, "payload.a: is empty, and part of the URL's path"),
        ({"url": f"{URL}/${{payload.a}}"}, {"a": ".."}, "url: a message cannot put . or .. into the path"),
        ({"url": f"{URL}/.${{payload.a}}/x"}, {"a": "."}, "url: a message cannot put . or .. into the path"),
        (
            {"url": f"{URL}/%2E${{payload.a}}/x"},
            {"a": "."},
            "url: a message cannot put . or .. into the path",
        ),
        (
            {"url": f"{URL}?a=${{payload.a}}"},
            {"a": [1]},
            "payload.a: must be a text, a number, true or false",
        ),
        (
            {"url": f"{URL}?a=${{payload.a}}"},
            {"a": "x" * 9000},
            "url: 9031 characters; at most 8192 are sent",
        ),
    ],
)
def test_a_message_that_cannot_fill_the_template_is_rejected(
    options: dict[str, Any], payload: dict[str, Any], reason: str
) -> None:
    assert refused(an_http(**options), payload) == reason


def test_headers() -> None:
    headers = {
        "Authorization": "Bearer ${provider.secret}",
        "Content-Type": "application/vnd.chat+json",
        "X-To": " ${payload.to} ",
        "Idempotency-Key": "${message.id}",
    }
    adapter = an_http(headers=headers, secret="s3cret")
    assert sent(adapter, {"to": "a b "}, traceparent=TRACE).headers == {
        "authorization": "Bearer s3cret",
        "content-type": "application/vnd.chat+json",
        "x-to": "a b",
        "idempotency-key": "order-17",
        "traceparent": TRACE,
    }


def test_templates_can_use_every_envelope_field() -> None:
    names = ("id", "queue", "priority", "created_at", "expires_at", "ttl", "collapse_key", "ordering_key")
    body = {name: f"${{message.{name}}}" for name in (*names, "attempt")} | {"by": "${provider.name}"}
    message = {"created_at": NOW, "ttl": "1m", "priority": "high", "collapse_key": "c", "ordering_key": "o"}
    assert json.loads(sent(an_http(body=body), {}, **message).body) == {
        "id": "order-17",
        "queue": "notifications",
        "priority": "high",
        "created_at": NOW,
        "expires_at": NOW + 60,
        "ttl": 60,
        "collapse_key": "c",
        "ordering_key": "o",
        "attempt": 1,
        "by": "chat",
    }


# The file


def test_the_environment_is_filled_in_first_and_not_read_again() -> None:
    text = f"url: {URL}/${{ROOM}}\nbody: {{text: ${{GREETING:-Hi}} ${{payload.name}}, x: $${{payload.name}}}}"
    request = sent(from_yaml(text, ROOM="7"), {"name": "Zoë"})
    assert request.url == f"{URL}/7"
    assert json.loads(request.body) == {"text": "Hi Zoë", "x": "${payload.name}"}
    request = sent(from_yaml(text, ROOM="7", GREETING="${payload.pin} $"), {"name": "Zoë", "pin": "1234"})
    assert json.loads(request.body)["text"] == "${payload.pin} $ Zoë"


def test_flow_mappings_take_references_without_quotes() -> None:
    text = f"url: {URL}\nbody: {{a: ${{payload.a}}, b: [${{payload.b:-x, y: z}}], c: ${{payload.c:-{{}}}}}}"
    assert json.loads(sent(from_yaml(text), {"a": 1}).body) == {"a": 1, "b": ["x, y: z"], "c": {}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            f"url: {URL}\nbody:\n  text: ${{paylaod.x}}",
            "7:13: providers.chat.body.text: ${paylaod.x}: there is no 'paylaod'; did you mean `payload`?",
        ),
        (
            f"url: {URL}\nbody: {{a: [1, 'x ${{order.id}}']}}",
            "6:19: providers.chat.body.a[1]: ${order.id}: there is no 'order'; did you mean `provider`?",
        ),
        (
            f"url: {URL}\nheaders: {{X-A: ${{message.idd}}}}",
            "6:20: providers.chat.headers.X-A: ${message.idd}: message has no 'idd'; did you mean `id`?",
        ),
        (
            f"url: {URL}\nform: {{a: ${{provider.key}}}}",
            "6:15: providers.chat.form.a: ${provider.key}: provider has no 'key'; there is name or secret",
        ),
        (
            f"url: {URL}\nbody: ${{id}}",
            "6:11: providers.chat.body: the environment variable id is not set; set it or write "
            "${id:-default} (the message's own is ${message.id})",
        ),
        (
            f"url: {URL}\nmethod: ${{payload.method}}",
            "6:13: providers.chat.method: ${payload.method}: only a template of messages can hold this "
            "(see docs/reference/providers/http.md); write $${ for ${",
        ),
        (
            f"url: {URL}\nbody: {{${{payload.key}}: 1}}",
            "6:12: providers.chat.body: ${payload.key}: a key cannot come from a message",
        ),
        (
            "url: https://${payload.host}/x",
            "5:10: providers.chat.url: must begin with https:// or http:// and a host; "
            "a message can fill only the rest",
        ),
        (
            "url: https://api.example.com${payload.host}",
            "5:10: providers.chat.url: must begin with https:// or http:// and a host; "
            "a message can fill only the rest",
        ),
        (
            "url: ${payload.url}",
            "5:10: providers.chat.url: must begin with https:// or http:// and a host; "
            "a message can fill only the rest",
        ),
        ("url: ftp://example.com/", "5:10: providers.chat.url: url: must begin with https:// or http://"),
        (f"url: {URL}#${{payload.x}}", "5:10: providers.chat.url: has a fragment (#…), which is never sent"),
        (f"url: {URL}/../${{payload.x}}", "5:10: providers.chat.url: has . or .. in its path"),
        (
            f"url: {URL}\nheaders: {{Content-Length: '1'}}",
            "6:14: providers.chat.headers: headers: Content-Length is set by relay and by the connection",
        ),
        (
            f"url: {URL}\nheaders: {{a: '1', A: '2'}}",
            "6:14: providers.chat.headers: headers: the same name is listed twice",
        ),
        (
            f"url: {URL}\nbody: x\nform: {{a: b}}",
            "4:5: providers.chat: `body` and `form` are both set; keep one",
        ),
        (
            f"url: {URL}\nstatuses: {{success: [200-99]}}",
            '6:25: providers.chat.statuses.success: "200-99" is not a status; '
            "write a code such as 404 or a range such as 200-299",
        ),
        (
            f"url: {URL}\nstatuses: {{retry: [409], reject: [400-499]}}",
            "6:15: providers.chat.statuses: 409 is in both `retry` and `reject`; keep one",
        ),
        (
            f"url: {URL}\nstatuses: {{unregistered: 410}}",
            "4:5: providers.chat: `statuses.unregistered` needs `target_field`, whose value is reported",
        ),
        (
            f"url: {URL}\nretry_if: {{error: x}}",
            "4:5: providers.chat: `retry_if` and `unauthorised_if` need `success_if`",
        ),
    ],
)
def test_a_mistake_is_reported_at_its_place(text: str, problem: str) -> None:
    (found,) = problems(text)
    assert found.startswith(f"relay.yaml:{problem}")


def test_elsewhere_in_the_file_a_reference_to_messages_is_a_mistake() -> None:
    text = a_file(f"url: {URL}") + "log: {level: ${payload.level}}\n"
    with pytest.raises(ConfigError) as caught:
        loads(text, "relay.yaml", {"http": HttpRequestOptions}, {})
    assert caught.value.problems[0].startswith(
        "relay.yaml:6:14: log.level: ${payload.level}: only a template"
    )


def test_a_url_may_stand_in_a_file_and_is_a_template_there(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://hooks.example.com/T0/${payload.room}\n")
    options = loads(a_file("url_file: url"), tmp_path / "relay.yaml", {"http": HttpRequestOptions}, {})
    adapter = Http("chat", options.providers["chat"])
    assert sent(adapter, {"room": "a/b"}).url == "https://hooks.example.com/T0/a%2Fb"


def test_no_secret_is_shown() -> None:
    adapter = an_http(
        url="https://h.example/s3cret", headers={"A": "s3cret"}, body={"k": "x"}, secret="s3cret"
    )
    assert "s3cret" not in repr(adapter.options)
    assert "s3cret" not in adapter.options.model_dump_json(exclude={"body"})
    (line,) = problems("url: 's3cret//x'")
    assert "s3cret" not in line


async def test_verifying_sends_nothing_and_names_the_host_alone() -> None:
    assert await an_http(url="https://h.example/s3cret").verify() == (
        "nothing was sent; requests go to https://h.example"
    )


# Outcomes of answers


def outcome(response: Response, payload: Any = None, **options: Any) -> Outcome:
    (found,) = an_http(**options).outcomes([a_message(payload or {})], response)
    return found


# The tables of the page are tested in test_statuses.py.


def test_lists_of_statuses_win() -> None:
    statuses = {
        "success": [409],
        "retry": [404, "420-425"],
        "throttled": [420],
        "reject": [500],
        "unauthorised": [403],
        "unregistered": [410],
    }
    with pytest.raises(ConfigError):
        an_http(statuses=statuses, target_field="to")
    statuses["throttled"] = [420, 509]
    statuses["retry"] = [404, "421-425"]

    def by(status: int, **headers: str) -> Outcome:
        return outcome(Response(status, headers), {"to": 17}, statuses=statuses, target_field="to")

    assert by(409) == Delivered()
    assert by(404) == Retry("status 404", 404)
    assert by(423) == Retry("status 423", 423)
    assert by(509, **{"retry-after": "9"}) == Throttled("status 509", 9.0, 509)
    assert by(500) == Rejected("status 500", 500)
    assert by(403) == Unauthorised("status 403", 403, target="17")
    assert by(410) == Unregistered("17", "status 410", 410)
    assert by(201) == Delivered()
    assert by(302) == Rejected("status 302 (redirects are not followed)", 302)


DISCORD = "https://discord.example/api/webhooks/${payload.id}/${payload.token}"
BEARER = {"Authorization": "Bearer ${provider.secret}"}


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        # A revoked webhook of Slack (403 invalid_token, 404 no_service): the URL is the credential.
        ({}, {401, 403, 404, 405, 410}),
        (
            {"url": "https://api.example.com/bot${provider.secret}/send", "secret": "s"},
            {401, 403, 404, 405, 410},
        ),
        ({"headers": {"Idempotency-Key": "${message.id}"}}, {401, 403, 404, 405, 410}),
        (
            {"body": {"token": "${payload.device}"}, "headers": BEARER, "secret": "s"},
            {401, 403, 404, 405, 410},
        ),
        # The URL or the credentials come from the message.
        ({"url": DISCORD}, set()),
        ({"url": f"{URL}?token=${{payload.token}}"}, set()),
        ({"headers": {"Authorization": "Bearer ${payload.token}"}}, {404, 405, 410}),
        ({"headers": {"X-Key": "${payload.key}", **BEARER}, "secret": "s"}, {404, 405, 410}),
        ({"form": {"token": "${payload.token}", "text": "x"}}, {404, 405, 410}),
        ({"body": {"auth": {"api_key": "${payload.key}"}}}, {404, 405, 410}),
        # Credentials of the file for a resource that the message names.
        ({"url": f"{URL}/${{payload.id}}", "headers": BEARER, "secret": "s"}, {401}),
        ({"url": f"{URL}/${{payload.id}}", "headers": {"X-Api-Key": "abc"}}, {401}),
        ({"url": f"{URL}/${{payload.id}}", "form": {"key": "${provider.secret}"}, "secret": "s"}, {401}),
    ],
)
def test_a_refusal_may_be_our_fault_unless_url_or_credentials_come_from_the_message(
    options: dict[str, Any], ours: set[int]
) -> None:
    for status in (401, 403, 404, 405, 410):
        found = outcome(Response(status, {}, b"no"), {"id": 1, "token": "t", "key": "k"}, **options)
        assert type(found) is (Unauthorised if status in ours else Rejected), status


def test_a_throttled_receiver_makes_only_its_message_wait_if_the_file_says_so() -> None:
    body = (
        b'{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35",'
        b'"parameters":{"retry_after":35}}'
    )
    reason = f"429 {body.decode()}"
    telegram: dict[str, Any] = {"wait_field": "parameters.retry_after"}
    assert outcome(Response(429, {}, body), **telegram) == Throttled(reason, 35.0, 429, body, "provider")
    found = outcome(Response(429, {}, body), **telegram, throttled="target")
    assert found == Throttled(reason, 35.0, 429, body, "target")
    found = outcome(Response(420, {}, b""), throttled="target", statuses={"throttled": 420})
    assert found == Throttled("status 420", None, 420, b"", "target")


def test_a_retry_waits_as_long_as_the_answer_asks() -> None:
    assert outcome(Response(502, {"retry-after": "5"})) == Retry("status 502", 502, b"", 5.0)
    body = b'{"parameters":{"retry_after":31}}'
    found = outcome(Response(429, {}, body), wait_field="parameters.retry_after")
    assert found == Throttled(f"429 {body.decode()}", 31.0, 429, body)
    found = outcome(Response(429, {"retry-after": "5"}, body), wait_field="parameters.retry_after")
    assert isinstance(found, Throttled)
    assert found.after == 5.0
    for useless in (b"", b"[]", b'{"parameters":3}', b'{"parameters":{"retry_after":true}}'):
        found = outcome(Response(429, {}, useless), wait_field="parameters.retry_after")
        assert isinstance(found, Throttled)
        assert found.after is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"ok": True}, Delivered),
        ({"ok": 1}, Rejected),
        ({"ok": False, "error": {"code": "channel_not_found"}}, Rejected),
        ({"ok": False, "error": {"code": "invalid_auth"}}, Unauthorised),
        ({"ok": False, "error": {"code": "token_revoked"}}, Unauthorised),
        ({"ok": False, "error": {"code": "internal_error"}}, Retry),
        ({}, Rejected),
        ([], Rejected),
    ],
)
def test_a_success_may_say_otherwise_in_its_body(body: Any, expected: type[Outcome]) -> None:
    found = outcome(
        Response(200, {}, json.dumps(body).encode()),
        success_if={"ok": True},
        unauthorised_if={"error.code": ["invalid_auth", "token_revoked"]},
        retry_if={"error.code": "internal_error"},
    )
    assert isinstance(found, expected)


def test_a_success_without_json_is_rejected_because_a_retry_would_be_a_duplicate() -> None:
    found = outcome(Response(200, {}, b"<html>"), success_if={"ok": True})
    assert found == Rejected("200 <html> (`success_if`: the answer is not JSON)", 200, b"<html>")


@pytest.mark.parametrize(
    ("body", "incomplete", "expected"),
    [
        (b'{"ok": true}', "the connection was closed", Delivered),
        (b'{"ok": false}', "the connection was closed", Rejected),
        (b'{"ok": tr', "the connection was closed", Retry),
        (b'{"ok": tr', TOO_LONG, Rejected),
        (b"\x1f\x8b", DAMAGED, Rejected),
    ],
)
def test_a_success_whose_body_is_incomplete_is_judged_by_its_beginning(
    body: bytes, incomplete: str, expected: type[Outcome]
) -> None:
    response = Response(200, {}, body, incomplete)
    assert outcome(response) == Delivered()
    found = outcome(response, success_if={"ok": True})
    assert type(found) is expected
    if not isinstance(found, Delivered) and body != b'{"ok": false}':
        assert incomplete in getattr(found, "reason", "")


def test_a_fan_out_fills_the_field_that_the_file_names() -> None:
    assert an_http(target_field="chat_id").target_field == "chat_id"
    assert an_http().target_field == ""


def test_messages_travel_alone() -> None:
    assert Http.batch_size == 1
