"""The holds and pauses of a lane that are over, the newest 500. `record.lua` writes them."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.store.keys import LaneKeys

MOST = 100
"""Holds that are read at a time."""


class Hold(msgspec.Struct, frozen=True):
    """A time for which a lane sent nothing, or only probes. Times are in Unix seconds by Redis's clock."""

    state: str
    """As in `states.State`."""
    since: float
    ended: float
    reason: str = ""


async def read(client: Client, prefix: str, provider: str, *, since: float, limit: int = MOST) -> list[Hold]:
    """Return the holds that ended after a time, the newest first. Raises StoreError."""
    key = LaneKeys.of(prefix, provider).part("holds")
    oldest = f"{round(max(0.0, since) * 1000)}-0"
    try:
        entries: Any = await execute(client, "XREVRANGE", key, "+", oldest, "COUNT", limit)
    except REDIS_ERRORS as error:
        raise StoreError(f"{key}: {describe(error)}") from error
    found = (_hold(fields) for _, fields in entries)
    return [hold for hold in found if hold is not None]


def _hold(fields: Any) -> Hold | None:
    """Decode an entry; None if another program wrote it."""
    flat = dict(fields) if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        state, since, ended, reason = msgspec.msgpack.decode(
            flat.get(b"hold", b""), type=tuple[str, float, float, str]
        )
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return Hold(state, since / 1000, ended / 1000, reason)
