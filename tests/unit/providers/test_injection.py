"""A request stays one request to its own address, with any content of a message or of the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from providers.apns import ApnsOptions
from providers.fcm import FcmOptions
from providers.pusher import PusherOptions
from providers.webhook import WebhookOptions
from providers.webpush import WebPushOptions
from relay.errors import MessageError
from relay.message import parse_envelope
from relay.provider import Provider, Request
from tests.unit.providers.test_apns import DEVICE, an_apns
from tests.unit.providers.test_apns import options as apns_options
from tests.unit.providers.test_fcm import a_fcm, account
from tests.unit.providers.test_http import an_http
from tests.unit.providers.test_pusher import APP, a_pusher
from tests.unit.providers.test_webhook import a_webhook
from tests.unit.providers.test_webpush import VAPID, a_webpush, subscription

NOW = 1_800_000_000.0
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
URL = re.compile(r"https?://[^\x00-\x20\x7f]+")

HOSTILE = st.sampled_from(
    [
        "\r\nX-Evil: 1",
        "\nX-Evil: 1",
        "\r",
        "\0",
        "a\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        " x ",
        "\t",
        "\x1b[2J",
        "\x85",
        "\u2028",
        "é",
        "..",
        "../../evil",
        "a/b?c=d&e=f#g",
        "%0d%0aX-Evil:%201",
        "@evil.example/",
        "\\evil.example",
        "{}",
    ]
) | st.text(max_size=40)
ANY = st.recursive(
    HOSTILE | st.none() | st.booleans() | st.integers(), lambda inner: st.lists(inner, max_size=3)
)

BASES: dict[str, tuple[Callable[[], Provider[Any]], dict[str, Any], str]] = {
    "webhook": (
        cache(a_webhook),
        {"body": {"a": 1}, "headers": {"x-a": "b"}, "method": "PUT"},
        "https://example.com",
    ),
    "http": (
        cache(
            lambda: an_http(
                url="https://api.example.com/a/${payload.a}/b?q=${payload.b}",
                headers={"X-A": "${payload.c}", "X-Id": "${message.id}"},
                body={"text": "${payload.d}"},
            )
        ),
        {"a": "x", "b": "y", "c": "z", "d": {"e": 1}},
        "https://api.example.com",
    ),
    "webhook to anywhere": (
        cache(lambda: a_webhook(url=None)),
        {"url": "https://example.com/a", "body": 1},
        "",
    ),
    "webpush": (
        cache(a_webpush),
        {"subscription": subscription(), "topic": "a", "urgency": "low", "ttl": 5},
        "",
    ),
    "pusher": (
        cache(a_pusher),
        {"channel": "c", "event": "e", "data": {"a": 1}, "socket_id": "1.2", "info": "x"},
        "https://api-mt1.pusher.com",
    ),
    "apns": (
        cache(an_apns),
        {
            "device_token": DEVICE,
            "aps": {"alert": "Hi"},
            "headers": {"apns-topic": "a.b", "apns-collapse-id": "c"},
        },
        "https://api.push.apple.com",
    ),
    "fcm": (
        cache(a_fcm),
        {"token": "abc", "data": {"n": "1"}, "android": {"ttl": "5s"}},
        "https://fcm.googleapis.com",
    ),
}


def check(request: Request, origin: str) -> None:
    """Check that this is one request: no part of it ends a line, and it goes to the address in the file."""
    assert TOKEN.fullmatch(request.method)
    assert URL.fullmatch(request.url), request.url
    for name, value in request.headers.items():
        assert TOKEN.fullmatch(name), name
        assert VALUE.fullmatch(value), (name, value)
    if origin:
        parts = urlsplit(request.url)
        assert f"{parts.scheme}://{parts.netloc}" == origin
        assert ".." not in parts.path.split("/")
    else:
        assert request.public_only


@pytest.mark.parametrize("name", BASES)
@settings(deadline=None)
@given(data=st.data())
def test_no_message_can_say_more_than_its_fields(name: str, data: st.DataObject) -> None:
    build, base, origin = BASES[name]
    payload = json.loads(json.dumps(base))
    # Anything instead of any one value, or in addition to them, at any depth.
    node = payload
    while True:
        key = data.draw(st.sampled_from(sorted(node)) | HOSTILE)
        if isinstance(node.get(key), dict) and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(ANY)
        break
    envelope = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "id": HOSTILE,
                "collapse_key": HOSTILE,
                "traceparent": HOSTILE,
                "ordering_key": HOSTILE,
            },
        )
    )
    element = json.dumps({**envelope, "payload": payload}).encode("utf-8", "surrogatepass")
    try:
        message = parse_envelope(element, "notifications", NOW)[1]
    except MessageError:
        return
    adapter = build()
    if adapter.check(message) is None:
        check(adapter.request([message]), origin)  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [None, True, 0, "", [], {}], ids=json.dumps)
@pytest.mark.parametrize(("name", "field"), [(name, field) for name in BASES for field in BASES[name][1]])
def test_a_field_of_another_kind_is_refused_or_left_out(name: str, field: str, value: object) -> None:
    build, base, origin = BASES[name]
    element = json.dumps({"collapse_key": "k", "payload": {**base, field: value}}).encode()
    message = parse_envelope(element, "notifications", NOW)[1]
    adapter = build()
    if adapter.check(message) is None:
        check(adapter.request([message]), origin)  # type: ignore[attr-defined]


CONFIGURED: list[tuple[type[Any], dict[str, Any], str]] = [
    (WebhookOptions, {"type": "webhook"}, "url"),
    (WebhookOptions, {"type": "webhook"}, "method"),
    (PusherOptions, {"type": "pusher", **APP}, "url"),
    (PusherOptions, {"type": "pusher", **APP}, "cluster"),
    (PusherOptions, {"type": "pusher", **APP}, "app_id"),
    (ApnsOptions, apns_options().model_dump(include={"type", "key", "key_id", "team_id"}), "topic"),
    (ApnsOptions, apns_options().model_dump(include={"type", "key", "key_id", "team_id"}), "url"),
    (ApnsOptions, apns_options().model_dump(include={"type", "key", "team_id"}), "key_id"),
    (FcmOptions, {"type": "fcm", "service_account": json.dumps(account())}, "url"),
    (FcmOptions, {"type": "fcm", "service_account": json.dumps(account())}, "token_url"),
    (WebPushOptions, {"type": "webpush", "private_key": VAPID["private_raw_b64url"]}, "subject"),
]


@pytest.mark.parametrize(("model", "others", "field"), CONFIGURED)
@pytest.mark.parametrize(
    "value",
    ["a\r\nX-Evil: 1", "https://example.com/\r\nX: y", "\n", " ", "https://exa mple.com", "POST\n", "1\n"],
)
def test_the_file_cannot_say_more_either(
    model: type[Any], others: dict[str, Any], field: str, value: str
) -> None:
    with pytest.raises(ValidationError):
        model(**{**others, field: value})


@given(name=HOSTILE | st.just("x-a"), value=HOSTILE)
@example(name="x-a", value="b\n")
@example(name="x-a ", value="b")
@example(name="Host", value="evil.example")
@example(name="x-a", value=" b")
def test_headers_of_the_file_are_headers_or_refused(name: str, value: str) -> None:
    try:
        options = WebhookOptions(type="webhook", url="https://example.com/", headers={name: value})
    except ValidationError:
        return
    for found, text in options.headers.items():
        assert TOKEN.fullmatch(found)
        assert VALUE.fullmatch(text)
        assert found.lower() not in ("host", "content-length", "transfer-encoding", "connection")


@given(key=st.text(min_size=1, max_size=30))
def test_the_key_of_the_file_is_quoted_in_the_url(key: str) -> None:
    message = parse_envelope(b'{"payload":{"channel":"c","event":"e","data":1}}', "q", NOW)[1]
    check(a_pusher(key=key).request([message]), "https://api-mt1.pusher.com")


@pytest.mark.parametrize("project", ["a\r\nX: y", "../../evil", "a/b?c#d", "@evil.example", "é"])
def test_the_project_of_the_file_is_quoted_in_the_url(project: str) -> None:
    message = parse_envelope(b'{"payload":{"token":"a"}}', "q", NOW)[1]
    check(a_fcm(project_id=project).request([message]), "https://fcm.googleapis.com")
