"""The orders of operators that single workers take no messages. Each heartbeat reads that of its worker."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.store.keys import FleetKeys


class DrainOrder(msgspec.Struct, frozen=True):
    """One order. `at` is in Unix seconds by Redis's clock."""

    by: str
    reason: str = ""
    at: float = 0.0


async def order(client: Client, prefix: str, worker: str, new: DrainOrder) -> None:
    """Let a worker take no messages from its next heartbeat on. Raises StoreError."""
    await _run(client, "HSET", FleetKeys(prefix).drains, worker, msgspec.json.encode(new))


async def withdraw(client: Client, prefix: str, worker: str) -> bool:
    """Let a worker take messages again; returns whether there was an order. Raises StoreError."""
    return bool(await _run(client, "HDEL", FleetKeys(prefix).drains, worker))


async def read(client: Client, prefix: str) -> dict[str, DrainOrder]:
    """Return all orders by worker. Raises StoreError."""
    reply = await _run(client, "HGETALL", FleetKeys(prefix).drains)
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    found = {worker.decode("utf-8", "replace"): decode(encoded) for worker, encoded in pairs}
    return {worker: one for worker, one in found.items() if one is not None}


def decode(encoded: bytes) -> DrainOrder | None:
    """Return an order; None if there is none. One that cannot be read is an order too."""
    if not encoded:
        return None
    try:
        return msgspec.json.decode(encoded, type=DrainOrder)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return DrainOrder("unknown")


async def _run(client: Client, *words: str | bytes) -> Any:
    try:
        return await execute(client, *words)
    except REDIS_ERRORS as error:
        raise StoreError(f"drains: {describe(error)}") from error
