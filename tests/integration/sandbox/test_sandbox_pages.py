"""The payloads of the pages about APNs and FCM: the sandbox accepts each one as it stands."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from providers._shared.apns_channels import Storage
from providers.apns import Apns, ApnsOptions
from providers.fcm import Fcm, FcmOptions
from relay.http.reqwest_transport import ReqwestTransport
from relay.message import Message, parse_envelope
from relay.outcome import Delivered
from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.fcm import FcmEmulator
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox

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
async def transport(sandbox: Sandbox) -> AsyncIterator[ReqwestTransport]:
    ca = sandbox.identity.ca.decode()
    running = ReqwestTransport(timeout=30, concurrency=8, ca=ca, http2=True)
    yield running
    await running.close()


@pytest.fixture
async def apns(sandbox: Sandbox, transport: ReqwestTransport) -> Apns:
    settings = ApnsEmulator(sandbox.options, sandbox.identity).settings(sandbox.apns_url)
    adapter = Apns("apns", ApnsOptions.model_validate(settings))
    await adapter.start(transport)
    return adapter


@pytest.fixture
async def channel(apns: Apns) -> str:
    return await apns.channels().create(Storage.LATEST)


@pytest.fixture
async def fcm(sandbox: Sandbox, transport: ReqwestTransport) -> AsyncIterator[Fcm]:
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


def test_a_page_has_a_payload_for_each_feature() -> None:
    pushed: set[Any] = {
        json.loads(text)["payload"].get("aps", {}).get("event") for text in payloads("apns.md")
    }
    assert pushed == {None, "start", "update", "end"}
    assert len(payloads("apns.md")) == 11
    assert len(payloads("fcm.md")) == 10
