"""Answers that no provider gives: adapters make an outcome of each, and short reasons."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from providers._shared.oauth_tokens import TokenRefused, read_token
from relay.errors import TransportError
from relay.message import parse_envelope
from relay.outcome import Outcome
from relay.provider import HttpProvider, Response
from tests.unit.providers.test_apns import DEVICE, an_apns
from tests.unit.providers.test_fcm import a_fcm
from tests.unit.providers.test_http import an_http
from tests.unit.providers.test_pusher import a_pusher
from tests.unit.providers.test_webhook import a_webhook
from tests.unit.providers.test_webpush import a_webpush, subscription

DEEP = b"[" * 30_000 + b"]" * 30_000
BODIES = [
    b"",
    b"\xff" * 1000,
    b'"\xff"',
    DEEP,
    b'{"reason":' + DEEP + b"}",
    b'{"error":' + DEEP + b"}",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b"null",
    b"1e999",
    b"9" * 60_000,
    b'{"reason": {"a": []}, "timestamp": true}',
    b'{"reason": "Unregistered", "timestamp": 1e300}',
    b'{"error": [1], "ok": {"a": 1}, "wait": -1e300}',
    b'{"error": {"status": [], "message": {}, "details": [1, {"@type": 3, "fieldViolations": [7, {}]}]}}',
    json.dumps({"error": {"status": "x" * 60_000, "message": "y" * 60_000}}).encode(),
    json.dumps({"reason": "\x1b[2J\r\n" * 10_000}).encode(),
]
ADAPTERS: dict[str, tuple[Callable[[], HttpProvider[Any]], dict[str, Any]]] = {
    "webhook": (a_webhook, {"body": {}}),
    "webpush": (a_webpush, {"subscription": subscription()}),
    "pusher": (a_pusher, {"channel": "c", "event": "e", "data": 1}),
    "apns": (an_apns, {"device_token": DEVICE, "aps": {}}),
    "fcm": (a_fcm, {"token": "abc"}),
    "http": (
        lambda: an_http(
            success_if={"ok": True}, retry_if={"error.code": ["a"]}, wait_field="wait", body={"a": 1}
        ),
        {"a": 1},
    ),
}
HEADERS = [{}, {"retry-after": "9" * 1000, "location": "\x1b" * 60_000, "apns-id": "x" * 60_000}]


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:12]))
def test_an_adapter_makes_an_outcome_of_any_answer(name: str, body: bytes) -> None:
    build, payload = ADAPTERS[name]
    adapter = build()
    message = parse_envelope(json.dumps({"payload": payload}).encode(), "q", 0)[1]
    for status in (100, 200, 204, 302, 400, 401, 403, 404, 410, 413, 429, 500, 503, 999):
        for headers in HEADERS:
            (outcome,) = adapter.outcomes([message], Response(status, headers, body))
            assert isinstance(outcome, Outcome)


@pytest.mark.parametrize("status", [200, 400, 503])
@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        b'{"access_token": "a", "expires_in": "soon"}',
        b'{"access_token": "a", "expires_in": -5}',
        b'{"access_token": "a", "expires_in": "nan"}',
        b'{"access_token": "a\\r\\nX-Evil: 1"}',
        b'{"access_token": ""}',
        b'{"access_token": "\\u00e9"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_an_unusable_token_answer_raises_a_short_error(status: int, body: bytes) -> None:
    with pytest.raises((TransportError, TokenRefused)) as caught:
        read_token(Response(status, {}, body))
    assert len(str(caught.value)) <= 200
