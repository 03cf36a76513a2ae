"""The payloads of the pages about providers: the sandbox accepts each one without a change."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from providers._shared.apns_channels import Storage
from providers.pusher import Pusher, PusherOptions
from providers.webhook import Webhook, WebhookOptions
from relay.http.curl_transport import CurlTransport
from relay.message import Message, parse_envelope
from relay.outcome import Delivered
from relay.provider import HttpProvider
from relay.sandbox.pusher import PusherEmulator
from relay.sandbox.server import Sandbox
from relay.sandbox.webhook import WebhookEmulator
from tests.integration.sandbox.conftest import apns, fcm, webpush

PAGES = Path(__file__).parents[3] / "docs/reference/providers"
CUSTOMERS = "../../how-to/deliver-for-many-customers.md"
CHANNEL = "dHN0LXNyY2gtY2hubA=="
"""The channel of the page, which a real one replaces."""


def payloads(page: str) -> list[str]:
    """The messages of a page."""
    return re.findall(r"^```json\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)


def headings(page: str) -> list[str]:
    """The heading above each message of a page, and which message it is."""
    found, heading = [], ""
    for line in (PAGES / page).read_text().splitlines():
        if line.startswith("##"):
            heading = line.lstrip("# ")
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


@pytest.mark.parametrize("text", payloads("apns.md"), ids=headings("apns.md"))
async def test_the_payloads_for_apns_are_accepted(sandbox: Sandbox, text: str) -> None:
    async with apns(sandbox) as sender:
        channel = await sender.adapter.channels().create(Storage.LATEST)
        await accepted(sender.adapter, text.replace(CHANNEL, channel))


@pytest.mark.parametrize("text", payloads("fcm.md"), ids=headings("fcm.md"))
async def test_the_payloads_for_fcm_are_accepted(sandbox: Sandbox, text: str) -> None:
    async with fcm(sandbox) as sender:
        await accepted(sender.adapter, text)


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


@pytest.mark.parametrize(
    "text",
    [*payloads("webhook.md"), *payloads(CUSTOMERS)],
    ids=[*headings("webhook.md"), *headings(CUSTOMERS)],
)
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
async def test_the_payloads_for_browsers_are_accepted(sandbox: Sandbox, user: Any, text: str) -> None:
    element = json.loads(text)
    async with webpush(sandbox) as sender:
        assert sender.adapter.check(*messages(text, sender.adapter.target_field)) is None
        element["payload"]["subscription"] = await user.get("/_sandbox/subscriptions")
        await accepted(sender.adapter, json.dumps(element))
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
    assert [len(payloads(f"{name}.md")) for name in ("pusher", "webhook", "webpush")] == [7, 5, 4]
    assert len(payloads(CUSTOMERS)) == 2
