"""relay's Web Push adapter compared with pywebpush, an independent library: both send the same message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession
from py_vapid import Vapid
from pywebpush import webpush_async

from relay.outcome import Delivered
from relay.sandbox.exchange import Call
from relay.sandbox.server import Sandbox
from relay.sandbox.subscriptions import PATH, Subscriptions, public_key
from relay.sandbox.webpush import read_body
from tests.integration.sandbox.conftest import webpush

COMPARED = ("ttl", "urgency", "topic", "content-encoding", "content-type")
SUBJECT = "mailto:ops@example.com"
PLAIN = {"title": "Goal", "body": "Jalapeño 2 : 1 Olé"}
DECLARATIVE = {
    "web_push": 8030,
    "notification": {"title": "Goal", "navigate": "https://example.com/match/7"},
    "app_badge": 3,
}


@dataclass(frozen=True)
class Seen:
    """A push as the push service and the browser see it."""

    payload: bytes
    headers: dict[str, str]
    key: str
    audience: str
    subject: str


class PushService:
    """The sandbox, with the requests that it got."""

    def __init__(self, sandbox: Sandbox, calls: list[Call]) -> None:
        self.sandbox, self.calls = sandbox, calls
        self._browsers = Subscriptions(sandbox.identity.ca_key)

    def subscribe(self) -> dict[str, Any]:
        return self._browsers.make().document(self.sandbox.url)

    def seen(self) -> Seen:
        """The only request since the last call."""
        (call,) = self.calls
        self.calls.clear()
        browser = self._browsers.find(call.path.removeprefix(PATH))
        assert browser is not None
        scheme, _, parameters = call.headers["authorization"].partition(" ")
        assert scheme == "vapid"
        vapid = dict(part.strip().split("=", 1) for part in parameters.split(","))
        data, key = public_key(vapid["k"])
        claims = jwt.decode(vapid["t"], key, algorithms=["ES256"], audience=self.sandbox.url)
        return Seen(
            read_body(call, browser, data),
            {name: call.headers[name] for name in COMPARED if name in call.headers},
            vapid["k"],
            claims["aud"],
            claims["sub"],
        )


@pytest.fixture
def service(sandbox: Sandbox, calls: list[Call]) -> PushService:
    return PushService(sandbox, calls)


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


async def send_with_library(service: PushService, payload: dict[str, Any], **headers: str) -> None:
    async with ClientSession() as session:
        answer = await webpush_async(
            payload["subscription"],
            as_json(payload["data"]),
            Vapid.from_pem(service.sandbox.identity.vapid_key),
            {"sub": SUBJECT},
            ttl=payload["ttl"],
            headers={"urgency": payload["urgency"], "topic": payload["topic"], **headers},
            aiohttp_session=session,
        )
    assert answer.status == 201


@pytest.mark.parametrize(
    ("data", "declared", "content_type"),
    [
        pytest.param(PLAIN, {}, "application/octet-stream", id="plain"),
        pytest.param(
            DECLARATIVE,
            {"content-type": "application/notification+json"},
            "application/notification+json",
            id="declarative",
        ),
    ],
)
async def test_a_push_is_the_same_as_that_of_another_library(
    service: PushService, data: dict[str, Any], declared: dict[str, str], content_type: str
) -> None:
    """The browser decrypts the same bytes, and the push service sees the same headers and sender.

    pywebpush has no Declarative Web Push of its own. It encrypts the JSON like any other text, and its caller
    sets the content type, as `declared` does here; it does not check the notification. The content type of a
    plain push comes from its HTTP client, aiohttp. It has no arguments for urgency and topic, so they are
    given as headers, too.
    """
    payload = {
        "subscription": service.subscribe(),
        "data": data,
        "ttl": 90,
        "urgency": "high",
        "topic": "scores",
    }
    async with webpush(service.sandbox, subject=SUBJECT) as sender:
        assert isinstance(await sender.push(payload), Delivered)
    relay = service.seen()
    await send_with_library(service, payload, **declared)
    library = service.seen()
    assert relay == library
    assert (relay.payload, relay.subject) == (as_json(data).encode(), SUBJECT)
    assert relay.headers == {
        "ttl": "90",
        "urgency": "high",
        "topic": "scores",
        "content-encoding": "aes128gcm",
        "content-type": content_type,
    }
