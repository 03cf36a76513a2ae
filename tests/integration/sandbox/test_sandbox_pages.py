"""The payloads of the pages about providers: the sandbox accepts each one as it stands."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from providers._shared.apns_channels import Storage
from providers.apns import Apns, ApnsOptions
from providers.fcm import Fcm, FcmOptions
from providers.pusher import Pusher, PusherOptions
from providers.webhook import Webhook, WebhookOptions
from providers.webpush import WebPush, WebPushOptions
from relay.http.curl_http2 import CurlHttp2Transport
from relay.http.curl_transport import CurlTransport
from relay.message import Message, parse_envelope
from relay.outcome import Delivered
from relay.provider import HttpProvider
from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.fcm import FcmEmulator
from relay.sandbox.options import SandboxOptions
from relay.sandbox.pusher import PusherEmulator
from relay.sandbox.server import Sandbox
from relay.sandbox.subscriptions import Subscriptions
from relay.sandbox.webhook import WebhookEmulator
from relay.sandbox.webpush import WebPushEmulator

PAGES = Path(__file__).parents[3] / "docs/providers"
CHANNEL = "dHN0LXNyY2gtY2hubA=="
"""The channel of the page, which a real one replaces."""


def payloads(page: str) -> list[str]:
    """The messages of a page."""
    return re.findall(r"^```json\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)


def headings(page: str) -> list[str]:
    """The heading above each message of a page, and which message it is."""
    found, heading = [], ""
    for line in (PAGES / page).read_text().splitlines():
        if line.startswith("### "):
            heading = line[4:]
        elif line == "```json":
            found.append(heading)
    return found


def messages(text: str, target_field: str) -> list[Message]:
    """The messages that the adapter gets for an element: one for each of its `targets`."""
    element = json.loads(text)
    targets = element["payload"].pop("targets", [None])
    found = []
    for target in targets:
        more = {} if target is None else {target_field: target}
        changed = {"id": "a", **element, "payload": {**element["payload"], **more}}
        found.append(parse_envelope(json.dumps(changed).encode(), "notifications", time.time())[1])
    return found


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions()) as running:
        yield running


@pytest.fixture
async def transport(sandbox: Sandbox) -> AsyncIterator[CurlHttp2Transport]:
    ca = sandbox.identity.ca.decode()
    running = CurlHttp2Transport(timeout=30, concurrency=8, ca=ca, http2=True)
    yield running
    await running.close()


@pytest.fixture
async def apns(sandbox: Sandbox, transport: CurlHttp2Transport) -> Apns:
    settings = ApnsEmulator(sandbox.options, sandbox.identity).settings(sandbox.apns_url)
    adapter = Apns("apns", ApnsOptions.model_validate(settings))
    await adapter.start(transport)
    return adapter


@pytest.fixture
async def channel(apns: Apns) -> str:
    return await apns.channels().create(Storage.LATEST)


@pytest.fixture
async def fcm(sandbox: Sandbox, transport: CurlHttp2Transport) -> AsyncIterator[Fcm]:
    settings = FcmEmulator(sandbox.identity).settings(sandbox.apns_url)
    adapter = Fcm("fcm", FcmOptions.model_validate(settings))
    await adapter.start(transport)
    yield adapter
    await adapter.close()


@pytest.mark.parametrize("text", payloads("apns.md"), ids=headings("apns.md"))
async def test_the_payloads_for_apns_are_accepted(apns: Apns, channel: str, text: str) -> None:
    for message in messages(text.replace(CHANNEL, channel), "device_token"):
        assert apns.check(message) is None
        (outcome,) = await apns.deliver([message])
        assert isinstance(outcome, Delivered), outcome


@pytest.mark.parametrize("text", payloads("fcm.md"), ids=headings("fcm.md"))
async def test_the_payloads_for_fcm_are_accepted(fcm: Fcm, text: str) -> None:
    for message in messages(text, "token"):
        assert fcm.check(message) is None
        (outcome,) = await fcm.deliver([message])
        assert isinstance(outcome, Delivered), outcome


# Providers over HTTP/1.1


@pytest.fixture
async def plain(sandbox: Sandbox) -> AsyncIterator[CurlTransport]:
    running = CurlTransport(timeout=30, concurrency=8)
    yield running
    await running.close()


@pytest.mark.parametrize("text", payloads("pusher.md"), ids=headings("pusher.md"))
async def test_the_payloads_for_pusher_are_accepted(
    sandbox: Sandbox, plain: CurlTransport, text: str
) -> None:
    settings = PusherEmulator(sandbox.options).settings(sandbox.url)
    master_key = b64encode(bytes(32)).decode()
    own = {**settings, "event": "hit", "encryption_master_key": master_key}
    adapter = Pusher("pusher", PusherOptions.model_validate(own))
    await adapter.start(plain)
    await accepted(adapter, text)
    (entry,) = sandbox.request_log.entries
    assert entry.status == 200
    if "private-encrypted-" in text:
        assert "hits" not in entry.body


@pytest.mark.parametrize("text", payloads("webhook.md"), ids=headings("webhook.md"))
async def test_the_payloads_for_webhooks_are_accepted(
    sandbox: Sandbox, plain: CurlTransport, text: str
) -> None:
    settings = dict(WebhookEmulator(sandbox.options).settings(sandbox.url))
    if json.loads(text)["provider"] == "customers":
        settings |= {"url": None, "allow_private": True}
    adapter = Webhook("webhook", WebhookOptions.model_validate(settings))
    await adapter.start(plain)
    text = re.sub(r"https://[ab]\.example", f"{sandbox.url}/webhook", text)
    await accepted(adapter, re.sub(r"whsec_[^\"]*", sandbox.options.webhook_secret, text))


@pytest.mark.parametrize("text", payloads("webpush.md"), ids=headings("webpush.md"))
async def test_the_payloads_for_browsers_are_accepted(
    sandbox: Sandbox, plain: CurlTransport, text: str
) -> None:
    settings = WebPushEmulator(sandbox.identity, Subscriptions(b"")).settings(sandbox.url)
    adapter = WebPush("webpush", WebPushOptions.model_validate(settings))
    await adapter.start(plain)
    async with ClientSession() as session, session.get(f"{sandbox.url}/_sandbox/subscriptions") as answer:
        subscription = await answer.json()
    element = json.loads(text)
    assert adapter.check(*messages(text, adapter.target_field)) is None
    element["payload"]["subscription"] = subscription
    await accepted(adapter, json.dumps(element))
    data, (entry,) = element["payload"].get("data", ""), sandbox.request_log.entries
    assert entry.body == (data if isinstance(data, str) else json.dumps(data))


async def accepted(adapter: HttpProvider[Any], text: str) -> None:
    """Deliver an element, which has no more than the sandbox accepts."""
    for message in messages(text, adapter.target_field):
        assert adapter.check(message) is None
        (outcome,) = await adapter.deliver([message])
        assert isinstance(outcome, Delivered), outcome


def test_a_page_has_a_payload_for_each_feature() -> None:
    pushed: set[Any] = {
        json.loads(text)["payload"].get("aps", {}).get("event") for text in payloads("apns.md")
    }
    assert pushed == {None, "start", "update", "end"}
    assert len(payloads("apns.md")) == 11
    assert len(payloads("fcm.md")) == 10
    assert [len(payloads(f"{name}.md")) for name in ("pusher", "webhook", "webpush")] == [7, 6, 4]
