"""Pusher Channels: refused messages, requests, and the outcomes of answers."""

from __future__ import annotations

import hmac
import json
import sys
from base64 import b64decode, b64encode
from hashlib import md5, sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.secret import SecretBox
from pusher import Pusher as Official
from pusher.signature import sign as official_sign
from pydantic import ValidationError

from providers.pusher import Pusher, PusherOptions, signed_query
from relay.errors import TransportError, UsageError
from relay.message import Message, parse_bare
from relay.outcome import Delivered, Isolate, Outcome, Rejected, Retry, Unauthorised
from relay.provider import Request, Response
from testing.canned import Canned
from testing.json_values import JSON

NOW = 1353088179.9
APP = {"app_id": "3", "key": "278d425bdf160c739803", "secret": "7ad3773142a6692b25b8"}
VECTORS = json.loads((Path(__file__).parents[2] / "vectors/pusher_and_webhook.json").read_text())


def a_pusher(**fields: Any) -> Pusher:
    """The app of Pusher's own worked example, at its own time."""
    return Pusher("pusher", PusherOptions(type="pusher", **{**APP, **fields}), clock=lambda: NOW)


def a_message(payload: Any) -> Message:
    """A message whose payload is this object, or exactly these bytes."""
    encoded = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    return parse_bare(encoded, "notifications", NOW)


def an_event(**fields: Any) -> Message:
    return a_message({"channel": "site-1", "event": "hit", "data": {"n": 1}} | fields)


def verify(request: Request, secret: str = APP["secret"]) -> None:
    """Check the signature as Pusher does, by the official library's own function."""
    parts = urlsplit(request.url)
    query = dict(parse_qsl(parts.query, strict_parsing=True))
    signature = query.pop("auth_signature")
    if request.body:
        assert query["body_md5"] == md5(request.body).hexdigest()
    text = "&".join(f"{name}={query[name]}" for name in sorted(query))
    assert official_sign(secret, f"{request.method}\n{parts.path}\n{text}") == signature
    assert query["auth_timestamp"] == str(int(NOW))


# Signature


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v["kind"] == "http_api_signature"], ids=lambda vector: vector["id"]
)
def test_signatures_equal_those_of_pusher_and_its_libraries(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    query = {
        "auth_key": inputs["app_key"],
        "auth_timestamp": inputs["auth_timestamp"],
        "auth_version": "1.0",
        **inputs["extra_query"],
    }
    if inputs["body_md5_included"]:
        query["body_md5"] = md5(inputs["body"].encode()).hexdigest()
        assert query["body_md5"] == expected["body_md5"]
    prepared = hmac.new(inputs["secret"].encode(), digestmod=sha256)
    signed = signed_query(prepared, inputs["method"], inputs["path"], query)
    assert dict(parse_qsl(signed)) == {**query, "auth_signature": expected["auth_signature"]}


def test_the_worked_example_goes_out_as_documented() -> None:
    request = a_pusher().request(
        [a_message({"channel": "project-3", "event": "foo", "data": {"some": "data"}})]
    )
    parts = urlsplit(request.url)
    assert (request.method, parts.scheme, parts.netloc) == ("POST", "https", "api-mt1.pusher.com")
    assert parts.path == "/apps/3/events"
    assert json.loads(request.body) == {"name": "foo", "channels": ["project-3"], "data": '{"some": "data"}'}
    assert request.headers["Content-Type"] == "application/json"
    assert not request.public_only
    verify(request)


def test_a_key_with_strange_characters_is_signed_raw_and_sent_escaped() -> None:
    request = a_pusher(key="a+b/c=,é &").request([an_event()])
    assert "auth_key=a%2Bb%2Fc%3D%2C%C3%A9%20%26&" in request.url
    verify(request)


@pytest.mark.parametrize(
    ("fields", "base"),
    [
        ({}, "https://api-mt1.pusher.com/apps/3/events"),
        ({"cluster": "eu"}, "https://api-eu.pusher.com/apps/3/events"),
        ({"url": "http://127.0.0.1:6001"}, "http://127.0.0.1:6001/apps/3/events"),
        ({"url": "http://127.0.0.1:6001/"}, "http://127.0.0.1:6001/apps/3/events"),
        ({"url": "https://[::1]:6001"}, "https://[::1]:6001/apps/3/events"),
        ({"url": "https://example.com/soketi/"}, "https://example.com/soketi/apps/3/events"),
        ({"url": "https://a.example/a"}, "https://a.example/a/apps/3/events"),
    ],
)
def test_the_url_of_a_request_follows_the_options(fields: dict[str, str], base: str) -> None:
    request = a_pusher(**fields).request([an_event()])
    assert request.url.partition("?")[0] == base
    verify(request)


# Options


@pytest.mark.parametrize(
    "fields",
    [
        {"app_id": "3a"},
        {"app_id": "3/a", "url": "http://127.0.0.1:6001"},
        {"app_id": ""},
        {"key": ""},
        {"secret": ""},
        {"cluster": "eu.example.com/"},
        {"url": "127.0.0.1:6001"},
        {"url": "ftp://example.com"},
        {"url": "http://"},
        {"url": "http://user:word@example.com"},
        {"url": "http://example.com/?a=b"},
        {"url": "http://example.com/#a"},
        {"url": "http://example.com/a b"},
        {"url": "http://a..b/"},
        {"url": "http://127.1/"},
        {"url": "http://example.com:99999"},
        {"event": ""},
        {"event": "x" * 201},
        {"event": "pusher:hit"},
        {"max_data": 0},
    ],
)
def test_options_that_could_never_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_pusher(**fields)


# Refused messages

OK_CHANNELS = [
    "a",
    "site-1",
    "private-x",
    "presence-x_y=@,.;",
    "x" * 200,
    "#server-to-user-42",
    "#server-to-user-" + "x" * 200,
]


def test_a_self_hosted_server_may_have_an_id_with_letters() -> None:
    pusher = a_pusher(app_id="app-id", url="http://127.0.0.1:6001")
    assert "/apps/app-id/events?" in pusher.request([an_event()]).url


BOX = {"nonce": b64encode(b"n" * 24).decode(), "ciphertext": b64encode(b"c" * 17).decode()}


@pytest.mark.parametrize("data", [BOX, json.dumps(BOX)])
def test_an_encrypted_channel_takes_encrypted_data(data: object) -> None:
    assert a_pusher().check(an_event(channel="private-encrypted-room", data=data)) is None


@pytest.mark.parametrize(
    "data",
    [
        {"n": 1},
        "plain",
        {**BOX, "nonce": b64encode(b"short").decode()},
        {**BOX, "ciphertext": b64encode(b"c" * 16).decode()},
        {**BOX, "ciphertext": "not base64"},
        {**BOX, "ciphertext": 7},
        {"nonce": BOX["nonce"]},
    ],
)
def test_an_encrypted_channel_takes_no_plain_data(data: object) -> None:
    for where in (
        {"channel": "private-encrypted-room"},
        {"channels": ["private-encrypted-room"], "channel": None},
    ):
        refused = a_pusher().check(an_event(data=data, **where))
        assert refused is not None
        assert "encrypted data" in refused.reason


MASTER_KEY = b64encode(bytes(range(32))).decode()


def opened(channel: str, data: str) -> str:
    """The data as a client reads it: with the shared secret that the official library gives it."""
    if not channel.startswith("private-encrypted-"):
        return data
    official = Official(**APP, encryption_master_key_base64=MASTER_KEY)
    secret = b64decode(official.authenticate(channel, "1.1")["shared_secret"])
    box = json.loads(data)
    return SecretBox(secret).decrypt(b64decode(box["ciphertext"]), b64decode(box["nonce"])).decode()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"b": 1.10,  "a":"\\u00e9"}', '{"b": 1.10,  "a":"\\u00e9"}'),
        (b'"text \\u2603"', "text ☃"),
        (b'""', ""),
        (b"null", "null"),
    ],
)
def test_a_master_key_encrypts_data_as_the_official_library_does(data: bytes, text: str) -> None:
    pusher = a_pusher(encryption_master_key=MASTER_KEY)
    message = a_message(b'{"channel":"private-encrypted-room","event":"e","data":%s}' % data)
    assert pusher.check(message) is None
    bodies = [json.loads(pusher.request([message]).body) for _ in range(2)]
    for body in bodies:
        assert body["channels"] == ["private-encrypted-room"]
        assert opened("private-encrypted-room", body["data"]) == text
    assert bodies[0]["data"] != bodies[1]["data"]


def test_data_that_is_encrypted_already_and_other_channels_stay_as_they_are() -> None:
    pusher = a_pusher(encryption_master_key=MASTER_KEY)
    encrypted = an_event(channel="private-encrypted-room", data=BOX)
    assert pusher.check(encrypted) is None
    assert json.loads(json.loads(pusher.request([encrypted]).body)["data"]) == BOX
    plain = an_event(channel="private-room", data="x")
    assert json.loads(pusher.request([plain]).body)["data"] == "x"
    assert pusher.group(encrypted) is None


def test_encrypted_data_is_measured_after_its_encryption() -> None:
    pusher = a_pusher(encryption_master_key=MASTER_KEY)

    def refused(size: int) -> Rejected | None:
        return pusher.check(an_event(channel="private-encrypted-room", data="x" * size))

    largest = max(size for size in range(7500, 7700) if refused(size) is None)
    body = pusher.request([an_event(channel="private-encrypted-room", data="x" * largest)]).body
    assert 10236 < len(json.loads(body)["data"]) <= 10240
    found = refused(largest + 1)
    assert found is not None
    assert "bytes after its encryption; the server takes at most 10240" in found.reason


@pytest.mark.parametrize("key", ["short", b64encode(b"x" * 31).decode(), "é" * 44])
def test_a_wrong_master_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValidationError, match=r"must be base64|must be the base64 of 32 bytes") as caught:
        a_pusher(encryption_master_key=key)
    assert key not in str(caught.value)


def test_the_library_for_encryption_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl.secret", None)
    with pytest.raises(ValidationError, match="pip install 'relay-push\\[encryption\\]'"):
        a_pusher(encryption_master_key=MASTER_KEY)
    a_pusher()


# Users


def test_an_event_goes_to_the_connections_of_one_user() -> None:
    message = an_event(channel="#server-to-user-42")
    assert a_pusher().check(message) is None
    assert json.loads(a_pusher().request([message]).body)["channels"] == ["#server-to-user-42"]


def test_the_connections_of_a_user_are_terminated() -> None:
    message = a_message({"terminate_connections": "user-42", "channel": None})
    assert a_pusher().check(message) is None
    assert a_pusher().group(message) is None
    request = a_pusher().request([message])
    assert urlsplit(request.url).path == "/apps/3/users/user-42/terminate_connections"
    assert (request.method, request.body) == ("POST", b"{}")
    verify(request)


@pytest.mark.parametrize("channel", ["site-1", "#server-to-user-42", "private-encrypted-room"])
def test_the_official_client_makes_the_same_event(channel: str) -> None:
    client = Official(**APP, encryption_master_key_base64=MASTER_KEY)._pusher_client  # noqa: SLF001 - it sends nothing
    official = client.trigger.make_request(channel, "hit", {"hits": 3}, "12.34")
    ours = a_pusher(encryption_master_key=MASTER_KEY).request(
        [an_event(channel=channel, data={"hits": 3}, socket_id="12.34")]
    )
    assert (ours.method, urlsplit(ours.url).path) == (official.method, official.path)
    bodies = [json.loads(body) for body in (ours.body, official.body)]
    plain = [opened(channel, body.pop("data")) for body in bodies]
    assert bodies[0] == bodies[1]
    assert json.loads(plain[0]) == json.loads(plain[1]) == {"hits": 3}


def test_the_official_client_ends_connections_by_the_same_request() -> None:
    client = Official(**APP)._pusher_client  # noqa: SLF001 - it sends nothing
    official = client.terminate_user_connections.make_request("42")
    ours = a_pusher().request([a_message({"terminate_connections": "42"})])
    # Version 3.3.4 leaves the app out of the path.
    assert (ours.method, urlsplit(ours.url).path) == (official.method, f"/apps/3{official.path}")
    assert ours.body == official.body


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"terminate_connections": ""}, "terminate_connections: is empty"),
        ({"terminate_connections": 42}, "terminate_connections: must be a user's id, a string"),
        (
            {"terminate_connections": "../events"},
            "terminate_connections: '../events' may hold only letters, digits and _-=@,.;",
        ),
        ({"terminate_connections": ".."}, "terminate_connections: '..' cannot stand in a path"),
        (
            {"terminate_connections": "x" * 201},
            "terminate_connections: 201 characters; at most 200 are allowed",
        ),
        (
            {"terminate_connections": "42", "event": "bye"},
            "'event': a message with terminate_connections must have no other field",
        ),
    ],
)
def test_a_termination_that_pusher_would_refuse_is_rejected(payload: dict[str, Any], reason: str) -> None:
    assert a_pusher(event="hit").check(a_message(payload)) == Rejected(reason)


def test_an_empty_socket_id_is_left_out() -> None:
    message = an_event(socket_id="")
    assert a_pusher().check(message) is None
    assert b"socket_id" not in a_pusher().request([message]).body


@pytest.mark.parametrize("channel", OK_CHANNELS)
def test_a_channel_that_pusher_takes_is_accepted(channel: str) -> None:
    assert a_pusher().check(an_event(channel=channel)) is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"event": "e"}, "channel: missing"),
        ({"channel": None, "event": "e"}, "channel: missing"),
        ({"channel": "", "event": "e"}, "channel: is empty"),
        ({"channel": "#server-to-user-", "event": "e"}, "channel: is empty"),
        ({"channel": 3, "event": "e"}, "channel: must be a string"),
        ({"channel": ["a"], "event": "e"}, "channel: must be a string"),
        ({"channel": "a b", "event": "e"}, "channel: 'a b' may hold only letters, digits and _-=@,.;"),
        ({"channel": "a\n", "event": "e"}, "channel: 'a\\n' may hold only letters, digits and _-=@,.;"),
        ({"channel": "é", "event": "e"}, "channel: 'é' may hold only letters, digits and _-=@,.;"),
        ({"channel": "#other", "event": "e"}, "channel: '#other' may hold only letters, digits and _-=@,.;"),
        ({"channel": "x" * 201, "event": "e"}, "channel: 201 characters; at most 200 are allowed"),
        (
            {"channel": "#server-to-user-" + "x" * 201, "event": "e"},
            "channel: 201 characters; at most 200 are allowed",
        ),
        ({"channel": "a", "channels": ["b"], "event": "e"}, "channel, channels: give one of the two"),
        ({"channels": [], "event": "e"}, "channels: must be a list of 1 to 100 names, not 0"),
        ({"channels": ["c"] * 101, "event": "e"}, "channels: must be a list of 1 to 100 names, not 101"),
        ({"channels": "a", "event": "e"}, "channels: must be a list of 1 to 100 names"),
        ({"channels": ["a", 3], "event": "e"}, "channels: must be a list of 1 to 100 names"),
        ({"channels": ["a", None], "event": "e"}, "channels: must be a list of 1 to 100 names"),
        (
            {"channels": ["a", "private-encrypted-b"], "event": "e"},
            "channels: an encrypted channel (private-encrypted-…) must be the only one",
        ),
        ({"channel": "a"}, "event: missing, and the option `event` supplies none"),
        ({"channel": "a", "event": None}, "event: missing, and the option `event` supplies none"),
        ({"channel": "a", "event": ""}, "event: must be a string of 1 to 200 characters, not 0"),
        ({"channel": "a", "event": "x" * 201}, "event: must be a string of 1 to 200 characters, not 201"),
        ({"channel": "a", "event": 3}, "event: must be a string of 1 to 200 characters"),
        (
            {"channel": "a", "event": "pusher:x"},
            "event: names that begin with pusher: or pusher_internal: are reserved",
        ),
        (
            {"channel": "a", "event": "pusher_internal:x"},
            "event: names that begin with pusher: or pusher_internal: are reserved",
        ),
        (
            {"channel": "a", "event": "e", "socket_id": "12"},
            "socket_id: must be a string that looks like 123.456",
        ),
        (
            {"channel": "a", "event": "e", "socket_id": "١.٢"},
            "socket_id: must be a string that looks like 123.456",
        ),
        (
            {"channel": "a", "event": "e", "socket_id": 1.5},
            "socket_id: must be a string that looks like 123.456",
        ),
        ({"channel": "a", "event": "e", "info": 1}, "info: must be a string, such as subscription_count"),
        (
            {"channel": "a", "event": "e", "data": "x" * 10241},
            "data: 10241 bytes; the server takes at most 10240 (`max_data`)",
        ),
        (
            {"channel": "a", "event": "e", "data": ["x" * 10237]},
            "data: 10241 bytes; the server takes at most 10240 (`max_data`)",
        ),
        (
            {"channel": "a", "event": "e", "x": "y" * 10240},
            "data: 10248 bytes; the server takes at most 10240 (`max_data`)",
        ),
    ],
)
def test_a_payload_that_pusher_never_accepts_is_rejected(payload: dict[str, Any], reason: str) -> None:
    assert a_pusher().check(a_message(payload)) == Rejected(reason)


def test_data_is_measured_in_bytes_and_before_it_is_escaped() -> None:
    pusher = a_pusher(max_data=30)
    assert pusher.check(an_event(data="☃" * 10)) is None
    assert pusher.check(an_event(data="☃" * 11)) is not None
    assert pusher.check(an_event(data='"' * 30)) is None
    written = b'{"channel":"a","event":"e","data":"%s"}'
    assert pusher.check(a_message(written % (b"\\u2603" * 10))) is None
    assert pusher.check(a_message(written % (b"\\u2603" * 11))) is not None


@pytest.mark.parametrize("channel", ["site-1", "private-encrypted-room"])
def test_escapes_do_not_count_against_the_size(channel: str) -> None:
    written = b'{"channel":"%s","event":"e","data":{"n": 1.10, "text": "%s"}}'
    message = a_message(written % (channel.encode(), b"\\u0436" * 2000))
    assert len(message.payload_json) > 10240
    pusher = a_pusher(encryption_master_key=MASTER_KEY)
    assert pusher.check(message) is None
    data = json.loads(pusher.request([message]).body)["data"]
    assert len(data) <= 10240
    assert opened(channel, data) == '{"n": 1.10, "text": "%s"}' % (chr(0x436) * 2000)


def test_the_official_message_of_the_stats_site_needs_only_the_option_event() -> None:
    message = a_message(b'{"channel": "site-1", "hits": 3}')
    assert isinstance(a_pusher().check(message), Rejected)
    pusher = a_pusher(event="hit")
    assert pusher.check(message) is None
    document = json.loads(pusher.request([message]).body)
    assert document == {"name": "hit", "channels": ["site-1"], "data": '{"hits":3}'}


# Requests


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (b'{"channel":"c","event":"e","data": "text"}', "text"),
        (b'{"channel":"c","event":"e","data": "\\u00e9 \\"\\n\\u2603 \xc3\xa9"}', 'é "\n☃ é'),
        (b'{"channel":"c","event":"e","data":""}', ""),
        (b'{"channel":"c","event":"e","data": {"b": 1.10,  "a":"\\u00e9"} }', '{"b": 1.10,  "a":"\\u00e9"}'),
        (b'{"channel":"c","event":"e","data":[1e2 ,-0]}', "[1e2 ,-0]"),
        (
            b'{"channel":"c","event":"e","data":123456789012345678901234567890}',
            "123456789012345678901234567890",
        ),
        (b'{"channel":"c","event":"e","data":null}', "null"),
        (b'{"channel":"c","event":"e","data":true}', "true"),
        (b'{"channel":"c","event":"e"}', "{}"),
        (b'{"z": 1, "channel":"c", "a": "\\u00e9", "event":"e", "info":"x"}', '{"z":1,"a":"é"}'),
        (b'{"channel":"c","event":"e","data":1,"left":2}', "1"),
    ],
)
@pytest.mark.parametrize("size", [1, 2])
def test_the_data_is_exactly_the_payload_of_the_application(payload: bytes, data: str, size: int) -> None:
    message = a_message(payload)
    pusher = a_pusher()
    assert pusher.check(message) is None
    document = json.loads(pusher.request([message] * size).body)
    for event in document.get("batch", [document]):
        assert event["data"] == data


def test_several_messages_go_out_as_one_batch_in_their_order() -> None:
    messages = [an_event(channel=f"c{n}", data=n, socket_id=f"{n}.1", info="x") for n in range(10)]
    request = a_pusher().request(messages)
    assert urlsplit(request.url).path == "/apps/3/batch_events"
    assert json.loads(request.body) == {
        "batch": [
            {"name": "hit", "channel": f"c{n}", "data": str(n), "socket_id": f"{n}.1", "info": "x"}
            for n in range(10)
        ]
    }
    verify(request)


def test_a_message_with_many_channels_names_them_all() -> None:
    channels = [f"c{n}" for n in range(100)]
    message = a_message({"channels": channels, "event": "e", "data": "x"})
    assert a_pusher().check(message) is None
    assert json.loads(a_pusher().request([message]).body)["channels"] == channels


def test_null_is_the_same_as_absent() -> None:
    absent = dict.fromkeys(("channels", "socket_id", "info", "event", "terminate_connections"))
    message = an_event(**absent)
    pusher = a_pusher(event="hit")
    assert pusher.check(message) is None
    assert json.loads(pusher.request([message]).body).keys() == {"name", "channels", "data"}


def test_the_event_of_the_message_wins_over_the_option() -> None:
    request = a_pusher(event="hit").request([an_event(event="miss")])
    assert json.loads(request.body)["name"] == "miss"


@pytest.mark.parametrize(
    ("payload", "together"),
    [
        ({"channel": "a"}, True),
        ({"channels": ["a"]}, True),
        ({"channels": ["a", "b"]}, False),
        ({"channel": "private-encrypted-a", "data": BOX}, False),
        ({"channels": ["private-encrypted-a"], "data": BOX}, False),
    ],
)
def test_only_events_that_may_share_a_batch_have_a_group(payload: dict[str, Any], together: bool) -> None:
    assert (a_pusher().group(a_message({"event": "e", **payload})) is not None) is together


NAMES = st.sampled_from(["c", "private-encrypted-x", "#server-to-user-1", "a b", ""]) | JSON
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "channel": NAMES,
        "channels": st.lists(NAMES, max_size=3) | JSON,
        "event": st.sampled_from(["e", "pusher:e", ""]) | JSON,
        "data": JSON,
        "socket_id": st.just("1.2") | JSON,
        "info": st.just("x") | JSON,
        "other": JSON,
    },
)


@given(PAYLOADS, st.booleans(), st.integers(1, 3))
@example({"channel": "c", "event": "e", "data": '\x00\x7f\u2028"\\/'}, True, 2)
def test_any_payload_is_rejected_or_goes_out_whole(payload: dict[str, Any], escape: bool, size: int) -> None:
    message = a_message(json.dumps(payload, ensure_ascii=escape).encode())
    pusher = a_pusher()
    refused = pusher.check(message)
    if refused is not None:
        assert refused.reason
        assert refused.reason.isprintable()
        return
    batch = [message] * (size if pusher.group(message) else 1)
    request = pusher.request(batch)
    verify(request)
    document = json.loads(request.body)
    events = document.get("batch", [document])
    assert len(events) == len(batch)
    for event in events:
        assert isinstance(event["data"], str)
        assert event.get("channels", [event.get("channel")]) == (
            payload.get("channels") or [payload["channel"]]
        )
        if "data" not in payload:
            left = {"other": payload["other"]} if "other" in payload else {}
            assert json.loads(event["data"]) == left
        elif isinstance(payload["data"], str):
            assert event["data"] == payload["data"]
        else:
            assert json.loads(event["data"]) == payload["data"]


# The outcome of each answer

SKEWED = b"Timestamp expired: Given timestamp (2020-01-01) not within 600s of server time"
ANSWERS: list[tuple[Response, Outcome, Outcome | None]] = [
    # the answer; the outcome of a single message; the outcomes of a batch, if they differ
    (Response(200, {}, b"{}"), Delivered(), None),
    (Response(202, {}, b""), Delivered(), None),
    (Response(204), Delivered(), None),
    (
        Response(400, {}, b"bad channel\nname"),
        Rejected("400 bad channel name", 400, b"bad channel\nname"),
        Isolate("400 bad channel name"),
    ),
    (
        Response(401, {}, b"Unknown auth_key"),
        Unauthorised("401 Unknown auth_key (check key and secret)", 401, b"Unknown auth_key"),
        None,
    ),
    (
        Response(401, {}, SKEWED),
        Unauthorised(f"401 {SKEWED.decode()} (check this host's clock)", 401, SKEWED),
        None,
    ),
    (
        Response(403, {}, b"over quota"),
        Unauthorised("403 over quota (the app is disabled, or over its quota)", 403, b"over quota"),
        None,
    ),
    *(
        (Response(status), Unauthorised(f"status {status} (check app_id, cluster and url)", status), None)
        for status in (404, 405, 410)
    ),
    (Response(407), Unauthorised("status 407 (a proxy requires credentials)", 407), None),
    (
        Response(413, {}, b"data too long"),
        Rejected("413 data too long", 413, b"data too long"),
        Isolate("413 data too long"),
    ),
    (
        Response(413, {}, b"Message Quota exceeded"),
        Unauthorised(
            "413 Message Quota exceeded (the app is over its quota)", 413, b"Message Quota exceeded"
        ),
        None,
    ),
    (
        Response(302, {"location": "https://x.example/"}),
        Unauthorised(
            "status 302 (redirects are not followed; it points to 'https://x.example/') (check `url`)", 302
        ),
        None,
    ),
]


# The table of the page is tested in test_statuses.py.


@pytest.mark.parametrize(("response", "one", "many"), ANSWERS, ids=lambda value: getattr(value, "status", ""))
def test_each_answer_has_its_outcome(response: Response, one: Outcome, many: Outcome | None) -> None:
    pusher = a_pusher()
    assert pusher.outcomes([an_event()], response) == [one]
    assert pusher.outcomes([an_event()] * 3, response) == [many or one] * 3


def test_a_reason_is_one_short_line_that_a_terminal_can_show() -> None:
    body = b"\x1b[2J\x00 a\r\n\tb \xff" + b"x" * 70_000
    (outcome,) = a_pusher().outcomes([an_event()], Response(500, {}, body))
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("500 \\x1b[2J\\x00 a b \N{REPLACEMENT CHARACTER}xxx")
    assert len(outcome.reason) <= 204
    assert outcome.body == body


# Verifying


async def test_verifying_signs_a_request_that_sends_nothing() -> None:
    pusher, transport = a_pusher(cluster="eu"), Canned(Response(200, {}, b'{"channels":{}}'))
    await pusher.start(transport)
    assert await pusher.verify() == "https://api-eu.pusher.com accepts the key and the secret of app 3"
    (request,) = transport.requests
    assert (request.method, request.body) == ("GET", b"")
    assert urlsplit(request.url).path == "/apps/3/channels"
    verify(request)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Response(401, {}, b"Unknown auth_key"), "check key and secret"),
        (Response(401, {}, SKEWED), "check this host's clock"),
        (Response(403), "disabled, or over its quota"),
        (Response(404), "check app_id, cluster and url"),
        (Response(500, {}, b"oops"), "500 oops"),
        (TransportError("DNS: nowhere cannot be resolved"), "DNS: nowhere cannot be resolved"),
    ],
)
async def test_a_failed_verification_names_the_server_and_the_reason(
    answer: Response | TransportError, words: str
) -> None:
    pusher = a_pusher()
    await pusher.start(Canned(answer))
    with pytest.raises(UsageError) as caught:
        await pusher.verify()
    assert str(caught.value).startswith("https://api-mt1.pusher.com: ")
    assert words in str(caught.value)
    assert APP["secret"] not in str(caught.value)


def test_secrets_stay_out_of_representations() -> None:
    pusher = a_pusher()
    assert APP["secret"] not in repr(pusher.options)
    assert APP["secret"] not in repr(pusher.request([an_event()]))
    assert APP["secret"] not in msgspec.json.encode(pusher.options.model_dump(mode="json")).decode()
