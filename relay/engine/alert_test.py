"""Sends a test alert, and waits for its outcome."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from relay.engine.grouping import grouping
from relay.errors import UsageError
from relay.message import uuid7
from relay.operations.alerts import message_of, refusal
from relay.operations.lanes import lane_of
from relay.provider import Provider
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.store import journal
from relay.store.alerts import Alert, AlertEvent, AlertStore
from relay.store.fleet import Fleet
from relay.store.journal import JournalQuery
from relay.store.keys import FleetKeys

POLL = 0.1
"""Seconds between two looks for the receipt."""


async def send_test(
    client: Client, settings: Settings, adapter: Provider[ProviderOptions], *, who: str, wait: float
) -> dict[str, Any]:
    """Send a test alert in the way of a real one. Returns its receipt, or its state after `wait` seconds.

    Raises StoreError, and UsageError if the provider can send no alerts.
    """
    prefix, fleet = settings.redis.prefix, Fleet(client, settings.redis.prefix)
    now = await fleet.now()
    alert = Alert(alert="test", since=now, why=f"sent by {who}")
    message = message_of(AlertEvent(serial=0, alert=alert, at=now), adapter)
    message = msgspec.structs.replace(
        message, id=f"relay/test/{uuid7()}", reply_to=FleetKeys(prefix).alert_tests, expires_at=now + 3600
    )
    if problem := refusal(adapter):
        raise UsageError(f"alerts.provider: {problem}")
    if group_of := grouping(adapter.options, adapter.destination):
        message = msgspec.structs.replace(message, group=group_of(message))
    await lane_of(client, settings, adapter.name).enqueue([message])
    await fleet.wake([adapter.name])
    return await _receipt(client, prefix, adapter.name, message.id, wait)


async def _receipt(
    client: Client, prefix: str, provider: str, message_id: str, wait: float
) -> dict[str, Any]:
    store, until = AlertStore(client, prefix), time.monotonic() + wait
    while time.monotonic() < until:
        for encoded in reversed(await store.receipts()):
            receipt = _decode(encoded)
            if receipt.get("id") == message_id:
                await store.trim_receipts()
                return receipt
        await asyncio.sleep(POLL)
    attempts = await journal.search(client, prefix, provider, JournalQuery(id=message_id), limit=1)
    last = attempts[0] if attempts else None
    return {
        "id": message_id,
        "provider": provider,
        "outcome": "waiting",
        "reason": last.reason if last else "",
        "status": last.status if last else 0,
    }


def _decode(encoded: bytes) -> dict[str, Any]:
    """Decode a receipt; empty if another program has written it."""
    try:
        return msgspec.json.decode(encoded, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
