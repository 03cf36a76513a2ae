"""A running sandbox, and requests to it over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar

import pytest
from aiohttp import ClientSession, ClientTimeout
from standardwebhooks import Webhook

from providers.apns import Apns, ApnsOptions
from providers.fcm import Fcm, FcmOptions
from providers.webpush import WebPush, WebPushOptions
from relay.http import Transport
from relay.http.curl_http2 import CurlHttp2Transport
from relay.http.curl_transport import CurlTransport
from relay.message import Message, parse_envelope
from relay.outcome import Outcome
from relay.provider import HttpProvider
from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.exchange import Call
from relay.sandbox.fcm import FcmEmulator
from relay.sandbox.identity import Identity, identify
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.sandbox.subscriptions import Subscriptions
from relay.sandbox.webpush import WebPushEmulator


class User:
    """A client of a sandbox. Answers are (status, headers, text)."""

    def __init__(self, sandbox: Sandbox, session: ClientSession) -> None:
        self.sandbox, self.session = sandbox, session

    def signed(self, body: str, message_id: str = "msg_1", moment: datetime | None = None) -> dict[str, str]:
        """The headers of the official library."""
        moment = moment or datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": Webhook(self.sandbox.options.webhook_secret).sign(message_id, moment, body),
        }

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Mapping[str, str], str]:
        async with self.session.request(method, self.sandbox.url + path, **options) as answer:
            return answer.status, answer.headers, await answer.text()

    async def hook(
        self, path: str = "/webhook", message_id: str = "msg_1", body: str = "{}", seconds: float = 30
    ) -> tuple[int, Mapping[str, str], str]:
        """One webhook, correctly signed."""
        headers = self.signed(body, message_id)
        return await self.ask("POST", path, data=body, headers=headers, timeout=ClientTimeout(seconds))

    async def hooks(self, number: int, path: str = "/webhook") -> list[int]:
        """The statuses of `number` webhooks, one after the other."""
        return [(await self.hook(path))[0] for _ in range(number)]

    async def order(self, **faults: Any) -> int:
        """The status of an order of faults."""
        return (await self.ask("POST", "/_sandbox/faults", json=faults))[0]

    async def get(self, path: str) -> Any:
        async with self.session.get(self.sandbox.url + path) as answer:
            assert answer.status == 200
            return await answer.json()


@pytest.fixture(scope="session")
def identity() -> Identity:
    return identify(None, SandboxOptions.apns_topic)


@pytest.fixture
def lines() -> list[str]:
    """The lines that the sandbox prints."""
    return []


@pytest.fixture
def calls() -> list[Call]:
    """The requests that the sandbox received."""
    return []


@pytest.fixture
async def sandbox(lines: list[str], calls: list[Call]) -> AsyncIterator[Sandbox]:
    options = SandboxOptions(seed=1)
    async with Sandbox(options, on_request=lines.append, on_call=calls.append) as running:
        yield running


@pytest.fixture
async def user(sandbox: Sandbox) -> AsyncIterator[User]:
    async with ClientSession() as session:
        yield User(sandbox, session)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.002)


Adapter = TypeVar("Adapter", bound=HttpProvider[Any])


class Sender(Generic[Adapter]):
    """An adapter of relay over its own transport, as `async with`. All of its messages have `payload`."""

    def __init__(self, adapter: Adapter, transport: Transport, **payload: Any) -> None:
        self.adapter, self.transport, self.payload = adapter, transport, payload

    async def push(self, payload: Any = None, **envelope: Any) -> Outcome:
        """The outcome of one message."""
        document = {"id": "a", **envelope, "payload": {**self.payload, **(payload or {})}}
        return await self.send(
            parse_envelope(json.dumps(document, ensure_ascii=False).encode(), "notifications", time.time())[1]
        )

    async def send(self, message: Message) -> Outcome:
        assert self.adapter.check(message) is None
        (outcome,) = await self.adapter.deliver([message])
        return outcome

    async def __aenter__(self) -> Self:
        await self.adapter.start(self.transport)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.adapter.close()
        await self.transport.close()


def over_http2(sandbox: Sandbox, **fields: Any) -> Transport:
    ca = sandbox.identity.ca.decode()
    return CurlHttp2Transport(**{"timeout": 10, "concurrency": 64, "ca": ca, "http2": True, **fields})


DEVICE = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"


def apns_options(sandbox: Sandbox, **fields: Any) -> ApnsOptions:
    settings = ApnsEmulator(sandbox.options, sandbox.identity).settings(sandbox.apns_url)
    return ApnsOptions.model_validate({**settings, **fields})


def apns(sandbox: Sandbox, options: ApnsOptions | None = None, **fields: Any) -> Sender[Apns]:
    """A sender to one device over one connection; `fields` are those of its transport."""
    adapter = Apns("apns", options or apns_options(sandbox))
    transport = over_http2(sandbox, **{"connections": 1, **fields})
    return Sender(adapter, transport, device_token=DEVICE, aps={"alert": "Hi"})


def fcm(sandbox: Sandbox) -> Sender[Fcm]:
    settings = FcmEmulator(sandbox.identity).settings(sandbox.apns_url)
    options = FcmOptions.model_validate({**settings, "ca": sandbox.identity.ca.decode()})
    return Sender(Fcm("fcm", options), over_http2(sandbox), token="device-1")


def webpush(sandbox: Sandbox, **fields: Any) -> Sender[WebPush]:
    settings = WebPushEmulator(sandbox.identity, Subscriptions(b"")).settings(sandbox.url)
    adapter = WebPush("webpush", WebPushOptions.model_validate({**settings, **fields}))
    return Sender(adapter, CurlTransport(timeout=60, concurrency=8), data={"title": "Hi"})
