"""Webhooks: refused messages, requests with their signatures, and the outcomes of answers."""

from __future__ import annotations

import base64
import json
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from providers.webhook import Webhook, WebhookOptions
from relay.message import Message, parse_bare, parse_envelope
from relay.message.fan_out import FanOut, expand, split
from relay.outcome import (
    Delivered,
    Outcome,
    Rejected,
    Retry,
    Throttled,
    Unauthorised,
    Unregistered,
)
from relay.provider import Request, Response
from testing.json_values import JSON

NOW = 1_614_265_330.9
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLDER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
URL = "https://example.com/hook"
VECTORS = json.loads((Path(__file__).parents[2] / "vectors/pusher_and_webhook.json").read_text())
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def a_webhook(now: float = NOW, **fields: Any) -> Webhook:
    """A provider whose configuration gives the URL, unless the options differ."""
    return Webhook("hook", WebhookOptions(type="webhook", **{"url": URL, **fields}), clock=lambda: now)


def a_message(payload: Any, **envelope: Any) -> Message:
    """A message whose payload is this object, or exactly these bytes."""
    encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    envelope = {"id": "msg_1", **envelope}
    head = b"".join(
        json.dumps(name).encode() + b":" + json.dumps(value).encode() + b","
        for name, value in envelope.items()
    )
    return parse_envelope(b"{" + head + b'"payload":' + encoded + b"}", "notifications", NOW)[1]


def lower(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


# Signature

PRIVATE, PUBLIC = (
    next(v["inputs"][name] for v in VECTORS if v["kind"] == "standard_webhooks_v1a")
    for name in ("secret_key", "public_key")
)


def test_an_ed25519_signature_equals_that_of_the_standard() -> None:
    vector = next(v for v in VECTORS if v["kind"] == "standard_webhooks_v1a")
    inputs = vector["inputs"]
    for fields in ({"secret": PRIVATE}, {}):
        own = {} if fields else {"secrets": [PRIVATE]}
        message = a_message({"body": inputs["payload"], **own}, id=inputs["webhook_id"])
        request = a_webhook(inputs["webhook_timestamp"], **fields).request([message])
        assert request.headers["webhook-signature"] == vector["expected"]["webhook_signature"]


@pytest.mark.parametrize("secret", [PRIVATE, "whsk_" + base64.b64encode(b"s" * 32).decode()])
def test_an_ed25519_signature_is_verified_by_the_public_key_alone(secret: str) -> None:
    request = a_webhook(secret=secret).request([a_message({"body": {"a": 1}})])
    version, _, signature = request.headers["webhook-signature"].partition(",")
    content = f"msg_1.{request.headers['webhook-timestamp']}.".encode() + request.body
    seed = base64.b64decode(secret.removeprefix("whsk_"))[:32]
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    public.verify(base64.b64decode(signature), content)
    assert version == "v1a"
    if secret == PRIVATE:
        assert base64.b64encode(public.public_bytes_raw()).decode() == PUBLIC.removeprefix("whpk_")
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature), content + b" ")


def test_the_secrets_of_a_message_sign_instead_of_those_of_the_file() -> None:
    hook = a_webhook(time.time(), url=None, secret=SECRET)
    own = a_message({"url": URL, "body": {"a": 1}, "secrets": [OLDER, PRIVATE]})
    request = hook.request([own])
    kinds = [signature.partition(",")[0] for signature in request.headers["webhook-signature"].split()]
    assert kinds == ["v1", "v1a"]
    assert Verifier(OLDER).verify(request.body, dict(request.headers)) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(request.body, dict(request.headers))
    assert OLDER.encode() not in request.body
    other = hook.request([a_message({"url": URL, "body": {"a": 1}})])
    assert Verifier(SECRET).verify(other.body, dict(other.headers)) == {"a": 1}


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        ("whsec_AAAA", "secrets: must be an array of 1 to 10 texts"),
        ([], "secrets: must be an array of 1 to 10 texts"),
        ([SECRET] * 11, "secrets: must be an array of 1 to 10 texts"),
        ([7], "secrets[0]: must be a text of at most 200 characters"),
        ([SECRET, "whsec_" + "A" * 400], "secrets[1]: must be a text of at most 200 characters"),
        (["whsec_AAAA"], "secrets[0]: must hold 16 to 64 bytes in base64, not 3"),
        (["whsec_AA%A"], "secrets[0]: must be whsec_ or whsk_ followed by base64"),
        (["whsk_AAAA"], "secrets[0]: must be whsk_ followed by 32 or 64 bytes in base64"),
        (
            ["whsk_" + base64.b64encode(b"x" * 64).decode()],
            "secrets[0]: its second half is not the public key of its first half",
        ),
    ],
)
def test_secrets_of_a_message_that_cannot_sign_are_refused_without_a_word_of_them(
    secrets: Any, reason: str
) -> None:
    assert a_webhook().check(a_message({"body": {}, "secrets": secrets})) == Rejected(reason)


def test_a_fan_out_signs_each_delivery_by_the_secrets_of_its_message() -> None:
    hook = a_webhook(time.time(), url=None)
    message = a_message({"targets": [URL, f"{URL}/2"], "body": {"a": 1}, "secrets": [SECRET]})
    fan_out = split(message, hook.target_field, 10)
    assert isinstance(fan_out, FanOut)
    parts = expand(fan_out.message, "1", fan_out.chunks[0], 0)
    for part in parts:
        assert hook.check(part) is None
        request = hook.request([part])
        assert Verifier(SECRET).verify(request.body, dict(request.headers)) == {"a": 1}
    assert len(parts) == 2


# Credentials and URLs of messages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer x"),
        ("authorization", "x"),
        ("Cookie", "session=1"),
        ("X-Api-Key", "1"),
        ("X-Auth", "1"),
        ("X-Anything", "Bearer 0123456789"),
        ("X-Anything", "basic dXNlcjpwYXNz"),
    ],
)
def test_a_credential_of_the_file_never_goes_to_a_url_of_a_message(name: str, value: str) -> None:
    headers = {"X-Team": "a", name: value}
    with pytest.raises(ValidationError, match=f"{name} would go to the URL of any message") as caught:
        a_webhook(url=None, headers=headers)
    assert caught.value.errors()[0]["loc"] == ("headers",)
    assert value not in str(caught.value) or len(value) < 4
    a_webhook(headers=headers)
    opened = a_webhook(url=None, headers=headers, send_credentials_to_any_url=True)
    assert opened.request([a_message({"url": URL})]).headers[name.lower()] == value
    with pytest.raises(ValidationError):
        a_webhook(url=None, headers=headers, allow_private=True)


def test_headers_that_hold_no_credential_go_to_any_url() -> None:
    hook = a_webhook(url=None, headers={"X-Team": "a", "Accept": "*/*"})
    assert hook.request([a_message({"url": URL})]).headers["x-team"] == "a"


def test_a_shared_symmetric_secret_for_urls_of_messages_is_warned_of() -> None:
    (warning,) = a_webhook(url=None, secret=SECRET).options.warnings()
    assert "each receiver can forge requests to the others" in warning
    for fields in ({"secret": SECRET}, {"url": None}, {"url": None, "secret": PRIVATE}):
        assert list(a_webhook(**fields).options.warnings()) == []


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v["kind"] == "standard_webhooks_v1" and v["verified"]],
    ids=lambda vector: vector["id"],
)
def test_signatures_equal_those_of_the_official_libraries(vector: dict[str, Any]) -> None:
    inputs = vector["inputs"]
    secrets = inputs.get("secrets") or [inputs["secret"]]
    hook = a_webhook(inputs["webhook_timestamp"], secrets=secrets)
    request = hook.request([a_message({"body": inputs["payload"]}, id=inputs["webhook_id"])])
    assert request.body == inputs["payload"].encode()
    assert request.headers["webhook-id"] == inputs["webhook_id"]
    assert request.headers["webhook-timestamp"] == str(inputs["webhook_timestamp"])
    assert request.headers["webhook-signature"] == vector["expected"]["webhook_signature"]


@pytest.mark.parametrize("secret", [SECRET, OLDER])
def test_a_request_verifies_by_either_secret_of_a_rotation(secret: str) -> None:
    hook = a_webhook(time.time(), secret=SECRET, secrets=[OLDER])
    request = hook.request([a_message({"body": {"a": 1}})])
    assert Verifier(secret).verify(request.body, dict(request.headers)) == {"a": 1}
    assert len(request.headers["webhook-signature"].split()) == 2
    strange = "whsec_" + base64.b64encode(b"x" * 32).decode()
    with pytest.raises(WebhookVerificationError):
        Verifier(strange).verify(request.body, dict(request.headers))


def test_each_attempt_has_a_new_signature_and_the_same_id() -> None:
    message = a_message({"body": {}})
    first, second = (a_webhook(now, secret=SECRET).request([message]) for now in (NOW, NOW + 5))
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


def test_a_request_without_a_secret_has_an_id_and_no_signature() -> None:
    headers = a_webhook().request([a_message({"body": {}})]).headers
    assert headers["webhook-id"] == "msg_1"
    assert headers["webhook-timestamp"] == str(int(NOW))
    assert "webhook-signature" not in headers


@pytest.mark.parametrize(
    ("chosen", "sent"),
    [
        ("order-17", "order-17"),
        ("a.b.c", "a.b.c"),  # the specification forbids it, its libraries do not
        ("50%", "50%"),
        ("order 17", "order%2017"),
        ("commande-é", "commande-%C3%A9"),
        ("a\r\nX: y", "a%0D%0AX:%20y"),
        ("a\x00", "a%00"),
    ],
)
def test_any_id_travels_and_verifies(chosen: str, sent: str) -> None:
    hook, message = a_webhook(time.time(), secret=SECRET), a_message({"body": {"a": 1}}, id=chosen)
    assert hook.check(message) is None
    request = hook.request([message])
    assert request.headers["webhook-id"] == sent
    assert Verifier(SECRET).verify(request.body, dict(request.headers)) == {"a": 1}


# Options


@pytest.mark.parametrize(
    "fields",
    [
        {"secret": "whsec_"},
        {"secret": "whsec_not base64!"},
        {"secret": "whsec_" + base64.b64encode(b"x" * 15).decode()},
        {"secret": "whsec_" + base64.b64encode(b"x" * 65).decode()},
        {"secret": "whsk_" + base64.b64encode(b"x" * 64).decode()},
        {"secrets": [SECRET, "whsec_short"]},
        {"url": "example.com/hook"},
        {"url": "ftp://example.com"},
        {"url": "https://user:word@example.com/"},
        {"url": ""},
        {"method": "TRACE"},
        {"headers": {"host": "x"}},
        {"headers": {"webhook-signature": "x"}},
        {"headers": {"a b": "x"}},
        {"headers": {"a": "x\r\ny: z"}},
        {"allow_private": ["10.0.0.1/8"]},
        {"allow_private": ["intranet"]},
    ],
)
def test_options_that_could_never_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        a_webhook(**fields)
    assert "x" * 15 not in str(caught.value)


@pytest.mark.parametrize("size", [16, 24, 32, 64])
def test_a_secret_with_or_without_prefix_and_padding(size: int) -> None:
    text = base64.b64encode(bytes(range(size))).decode()
    expected = a_webhook(secret=f"whsec_{text}").request([a_message({"body": {}})]).headers
    for form in (text, text.rstrip("="), f"whsec_{text.rstrip('=')}"):
        assert a_webhook(secret=form).request([a_message({"body": {}})]).headers == expected


# Destinations


@pytest.mark.parametrize(
    ("allow_private", "guarded", "networks"),
    [
        (False, True, ()),
        (True, False, ()),
        (["10.0.0.0/8", "fd00::/8"], True, (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
    ],
)
def test_a_url_that_a_message_brings_is_guarded(allow_private: Any, guarded: bool, networks: Any) -> None:
    hook = a_webhook(url=None, allow_private=allow_private)
    message = a_message({"url": "http://10.0.0.1/", "body": {}})
    assert hook.check(message) is None
    request = hook.request([message])
    assert (request.url, request.public_only) == ("http://10.0.0.1/", guarded)
    assert hook.allowed_networks == networks


def test_a_url_of_the_configuration_may_be_private() -> None:
    request = a_webhook(url="http://127.0.0.1:8000/x").request([a_message({"body": {}})])
    assert (request.url, request.public_only) == ("http://127.0.0.1:8000/x", False)


# Refused messages


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"body": {}}, "url: missing, and the configuration gives none"),
        ({"order": 1}, "url: missing, and the configuration gives none"),
        ({"url": 3}, "url: must be a string of 1 to 2048 characters"),
        ({"url": ""}, "url: must be a string of 1 to 2048 characters"),
        ({"url": "https://e.com/" + "x" * 2048}, "url: must be a string of 1 to 2048 characters"),
        ({"url": "https://e.com/a b"}, "url: has spaces or control characters"),
        ({"url": "https://e.com/\r\nX: y"}, "url: has spaces or control characters"),
        ({"url": "\thttps://e.com/"}, "url: has spaces or control characters"),
        ({"url": "e.com"}, "url: must begin with https:// or http://"),
        ({"url": "//e.com"}, "url: must begin with https:// or http://"),
        ({"url": "file:///etc/passwd"}, "url: must begin with https:// or http://"),
        ({"url": "gopher://e.com"}, "url: must begin with https:// or http://"),
        ({"url": "https://"}, "url: has no host, or port 0"),
        ({"url": "https:///x"}, "url: has no host, or port 0"),
        ({"url": "https://e.com:0/"}, "url: has no host, or port 0"),
        ({"url": "https://e.com:99999/"}, "url: Port out of range 0-65535"),
        ({"url": "https://[::1/"}, "url: Invalid IPv6 URL"),
        ({"url": "https://[v1.x]/"}, "url: 'v1.x' is not a valid host"),
        ({"url": "https://a..b/"}, "url: 'a..b' is not a valid host"),
        ({"url": "https://127.1/"}, "url: '127.1' is not a valid host"),
        ({"url": "https://2130706433/"}, "url: '2130706433' is not a valid host"),
        ({"url": "https://a%00b/"}, "url: 'a%00b' is not a valid host"),
        ({"url": "https://a\\b/"}, "url: 'a\\\\b' is not a valid host"),
        ({"url": f"https://{'a' * 64}.com/"}, f"url: '{'a' * 64}.com' is not a valid host"),
        (
            {"url": "https://a:b@e.com/"},
            "url: must not contain credentials, which others would log; use a header",
        ),
        ({"url": URL, "method": "TRACE"}, "method: must be one of POST, PUT, PATCH, DELETE, GET"),
        ({"url": URL, "method": "post"}, "method: must be one of POST, PUT, PATCH, DELETE, GET"),
        ({"url": URL, "method": ["POST"]}, "method: must be one of POST, PUT, PATCH, DELETE, GET"),
        ({"url": URL, "headers": []}, "headers: must be an object of names and texts"),
        ({"url": URL, "headers": {"a b": "x"}}, "headers: 'a b' is not a header name"),
        ({"url": URL, "headers": {"": "x"}}, "headers: '' is not a header name"),
        ({"url": URL, "headers": {"a\r\nb": "x"}}, "headers: 'a\\r\\nb' is not a header name"),
        ({"url": URL, "headers": {"a": 1}}, "headers: the value of a must be a text without line breaks"),
        (
            {"url": URL, "headers": {"a": "x\r\nb: c"}},
            "headers: the value of a must be a text without line breaks",
        ),
        ({"url": URL, "headers": {"a": "x\n"}}, "headers: the value of a must be a text without line breaks"),
        (
            {"url": URL, "headers": {"a": "\x00"}},
            "headers: the value of a must be a text without line breaks",
        ),
        ({"url": URL, "headers": {"a": "☃"}}, "headers: the value of a must be a text without line breaks"),
        ({"url": URL, "headers": {"Host": "x"}}, "headers: Host is set by relay and by the connection"),
        (
            {"url": URL, "headers": {"Content-Length": "1"}},
            "headers: Content-Length is set by relay and by the connection",
        ),
        (
            {"url": URL, "headers": {"transfer-encoding": "chunked"}},
            "headers: transfer-encoding is set by relay and by the connection",
        ),
        (
            {"url": URL, "headers": {"Webhook-Signature": "v1,x"}},
            "headers: Webhook-Signature is set by relay and by the connection",
        ),
        (
            {"url": URL, "headers": {f"x-{n}": "y" for n in range(51)}},
            "headers: 51 of them; at most 50 are allowed",
        ),
        (
            {"url": URL, "headers": {"x": "y" * 16384}},
            "headers: 16385 characters in all; at most 16384 are allowed",
        ),
        (
            {"url": URL, "boddy": {}},
            "'boddy': not a field; fields: url, body, headers, method, secrets",
        ),
    ],
)
def test_an_impossible_request_is_rejected(payload: dict[str, Any], reason: str) -> None:
    assert a_webhook(url=None).check(a_message(payload)) == Rejected(reason)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTPS://EXAMPLE.com/",
        "https://example.com:8443/a/b?c=d#e",
        "https://my_host.internal./",
        "https://192.0.2.1/",
        "https://[2001:db8::1]:443/",
        "https://bücher.example/é",
    ],
)
def test_a_url_with_a_host_is_accepted(url: str) -> None:
    assert a_webhook(url=None).check(a_message({"url": url})) is None


def test_a_url_in_addition_to_that_of_the_configuration_is_rejected() -> None:
    refused = a_webhook().check(a_message({"url": "https://other.example/", "body": {}}))
    assert refused == Rejected("url: the configuration gives one already; take it out of one of the two")


# Requests


@pytest.mark.parametrize(
    ("payload", "body", "content_type"),
    [
        (b'{"body": {"b": 1.10,  "a":"\\u00e9"} }', b'{"b": 1.10,  "a":"\\u00e9"}', "application/json"),
        (b'{"body":[1e2 ,-0]}', b"[1e2 ,-0]", "application/json"),
        (b'{"body":3}', b"3", "application/json"),
        (b'{"body":true}', b"true", "application/json"),
        (b'{"body":null}', b"null", "application/json"),
        ('{"body":"é ☃"}'.encode(), "é ☃".encode(), "text/plain; charset=utf-8"),
        (b'{"body":""}', b"", "text/plain; charset=utf-8"),
        (b'{"method":"DELETE"}', b"", None),
        (b'{"headers":{}}', b"", None),
        (b'{"order": 1,  "lines":[]}', b'{"order": 1,  "lines":[]}', "application/json"),
        (b"{}", b"{}", "application/json"),
    ],
)
def test_the_body_is_exactly_the_payload_of_the_application(
    payload: bytes, body: bytes, content_type: str | None
) -> None:
    hook, message = a_webhook(time.time(), secret=SECRET), a_message(payload)
    assert hook.check(message) is None
    request = hook.request([message])
    assert request.body == body
    assert lower(request).get("content-type") == content_type
    if content_type == "application/json":
        assert Verifier(SECRET).verify(request.body, dict(request.headers)) == json.loads(body)


def test_a_bare_element_is_the_body() -> None:
    message = parse_bare(b' {"order": 17, "x": 1.0} ', "orders", NOW)
    assert a_webhook().check(message) is None
    assert a_webhook().request([message]).body == b'{"order": 17, "x": 1.0}'


def test_the_headers_of_the_message_win_over_those_of_the_configuration() -> None:
    hook = a_webhook(headers={"X-A": "1", "X-B": "1"}, method="PUT")
    message = a_message({"body": "x", "headers": {"x-b": "2", "Content-Type": "text/csv"}})
    request = hook.request([message])
    headers = lower(request)
    assert len(headers) == len(request.headers)
    assert (headers["x-a"], headers["x-b"], headers["content-type"]) == ("1", "2", "text/csv")
    assert request.method == "PUT"


def test_null_means_absent() -> None:
    hook = a_webhook(headers={"X-A": "1"}, secret=SECRET)
    absent = dict.fromkeys(("url", "headers", "method", "secrets"))
    for own in (absent, {"headers": {"X-A": None, "X-B": None}}):
        message = a_message({"body": {"n": 1}, **own})
        assert hook.check(message) is None
        request = hook.request([message])
        assert (request.url, request.method, request.body) == (URL, "POST", b'{"n": 1}')
        assert (request.headers["x-a"], "x-b" in request.headers) == ("1", False)
        assert "webhook-signature" in request.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
def test_the_method_of_the_message_wins(method: str) -> None:
    assert a_webhook(method="PUT").request([a_message({"body": {}, "method": method})]).method == method


def test_the_trace_of_the_message_is_passed_on() -> None:
    message = a_message({"body": {}, "headers": {"Traceparent": "mine"}}, traceparent=TRACE)
    assert lower(a_webhook().request([message]))["traceparent"] == TRACE
    assert "traceparent" not in lower(a_webhook().request([a_message({"body": {}})]))


PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "url": st.sampled_from([URL, "http://[::1]/", "https://a b/"]) | JSON,
        "body": JSON,
        "headers": st.dictionaries(
            st.sampled_from(["x-a", "Content-Type", "host"]) | st.text(max_size=4),
            st.text(max_size=6) | JSON,
            max_size=3,
        )
        | JSON,
        "method": st.sampled_from(["POST", "GET"]) | JSON,
    },
)


@given(
    PAYLOADS
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON, max_size=3)
)
def test_any_payload_is_rejected_or_goes_out_whole_and_verifies(payload: dict[str, Any]) -> None:
    try:
        message = a_message(json.dumps(payload).encode())
    except UnicodeError:
        return
    for url in (URL, None):
        hook = a_webhook(time.time(), secret=SECRET, url=url)
        refused = hook.check(message)
        if refused is not None:
            assert refused.reason
            assert refused.reason.isprintable()
            continue
        request = hook.request([message])
        for name, value in request.headers.items():
            assert "\r" not in name + value
            assert "\n" not in name + value
        sent = {name: value for name, value in request.headers.items() if name.startswith("webhook-")}
        timestamp = f"{sent['webhook-id']}.{sent['webhook-timestamp']}."
        again = a_signature(timestamp.encode() + request.body)
        assert sent["webhook-signature"] == again
        if {"url", "body", "headers", "method"}.isdisjoint(payload):
            assert json.loads(request.body) == payload
        elif isinstance(payload.get("body"), str):
            assert request.body == payload["body"].encode()
        elif "body" in payload:
            assert json.loads(request.body) == payload["body"]
            assert Verifier(SECRET).verify(request.body, dict(request.headers)) == payload["body"]
        else:
            assert request.body == b""


def a_signature(content: bytes) -> str:
    """Written down again, for bodies that the official library, which decodes JSON, cannot take."""
    import hmac

    digest = hmac.digest(base64.b64decode(SECRET.removeprefix("whsec_")), content, "sha256")
    return "v1," + base64.b64encode(digest).decode()


# The outcome of each answer

# The tables of the page are tested in test_statuses.py.


@pytest.mark.parametrize("status", [404, 405, 410, 401, 403])
def test_a_single_refusal_by_a_fixed_url_makes_no_dead_letter_and_no_feedback(status: int) -> None:
    found = a_webhook().outcomes([a_message({"body": {}})], Response(status, {}, b"no such service"))
    assert found == [Unauthorised(f"{status} no such service", status, b"no such service")]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 407])
def test_a_refusal_by_the_url_of_a_message_is_about_that_message(status: int) -> None:
    message = a_message({"url": "https://gone.example/", "body": {}})
    found = a_webhook(url=None).outcomes([message], Response(status))
    assert found == [Rejected(f"status {status}", status)]


def test_a_proxy_in_front_of_the_urls_of_messages_may_require_credentials() -> None:
    hook = a_webhook(url=None, allow_private=True, proxy="http://127.0.0.1:3128")
    (found,) = hook.outcomes([a_message({"url": URL, "body": {}})], Response(407))
    assert isinstance(found, Unauthorised)


def test_lists_of_statuses_win() -> None:
    statuses = {
        "success": [409],
        "retry": ["460-499", 404],
        "throttled": [509],
        "reject": [500],
        "unauthorised": [400],
        "unregistered": [410],
    }
    hook = a_webhook(statuses=statuses)

    def by(status: int, **headers: str) -> Outcome:
        (found,) = hook.outcomes([a_message({"body": {}})], Response(status, headers))
        return found

    assert by(409) == Delivered()
    assert by(404) == Retry("status 404", 404)
    assert by(470, **{"retry-after": "9"}) == Retry("status 470", 470, b"", 9.0)
    assert by(509, **{"retry-after": "9"}) == Throttled("status 509", 9.0, 509)
    assert by(500) == Rejected("status 500", 500)
    assert by(400) == Unauthorised("status 400", 400)
    assert by(410) == Unregistered(URL, "status 410", 410)
    assert by(408) == Retry("status 408", 408)


def test_statuses_in_two_lists_are_refused() -> None:
    with pytest.raises(ValidationError, match="409 is in both `retry` and `reject`; keep one"):
        a_webhook(statuses={"retry": [409], "reject": ["400-499"]})


def test_a_redirect_is_not_followed_and_its_target_is_named() -> None:
    response = Response(302, {"location": "https://x.example/"})
    assert a_webhook().outcomes([a_message({"body": {}})], response) == [
        Rejected("status 302 (redirects are not followed; it points to 'https://x.example/')", 302)
    ]


def test_a_target_that_is_gone_is_the_url_of_the_message() -> None:
    hook, message = a_webhook(url=None), a_message({"url": "https://gone.example/", "body": {}})
    assert hook.outcomes([message], Response(410)) == [
        Unregistered("https://gone.example/", "status 410", 410)
    ]


async def test_verifying_sends_nothing() -> None:
    assert await a_webhook(secret=SECRET).verify() == (
        f"nothing was sent; requests go to {URL}, signed (secrets that decode: 1)"
    )
    assert await a_webhook(url=None).verify() == (
        "nothing was sent; requests go to the url of each message, not signed"
    )


def test_messages_travel_alone() -> None:
    assert Webhook.batch_size == 1


def test_a_receiver_without_a_group_that_throttles_delays_no_message_to_others() -> None:
    busy = Response(429, {"retry-after": "3600"}, b"")
    message = a_message({"url": "https://a.example/"})
    (found,) = a_webhook(url=None, groups=False).outcomes([message], busy)
    assert found == Throttled("status 429", 3600.0, 429, b"", "target")
    grouped = msgspec.structs.replace(message, group="a.example")
    (found,) = a_webhook(url=None).outcomes([grouped], busy)
    assert found == Throttled("status 429", 3600.0, 429)
    (found,) = a_webhook().outcomes([a_message({"body": {}})], busy)
    assert found == Throttled("status 429", 3600.0, 429)
