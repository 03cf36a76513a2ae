"""The layout version of a lane's keys: an older relay does not work with keys of a newer one."""

from __future__ import annotations

from collections.abc import Iterable

from relay.errors import UsageError
from relay.redis_client.client import Client
from relay.store.keys import LaneKeys
from relay.store.reading import read_all

LAYOUT = 1
"""The layout that this version writes. It rises if the previous minor version could not work with it."""

FIELD = "layout"
"""The field of a lane's control hash."""


async def mark(client: Client, prefix: str, providers: Iterable[str]) -> None:
    """Record the layout in lanes that have none, or an older one.

    Raises UsageError if a lane has a newer one, StoreError if Redis cannot be reached.
    """
    names = tuple(providers)
    keys = [LaneKeys.of(prefix, name).part("control") for name in names]
    found, _ = await read_all(client, *(("HGET", key, FIELD) for key in keys))
    layouts = [int(value or 0) if (value or b"0").isdigit() else 0 for value in found]
    newer = [f"{name} ({layout})" for name, layout in zip(names, layouts, strict=True) if layout > LAYOUT]
    if newer:
        raise UsageError(
            f"a newer version of relay has written these lanes: {', '.join(newer)}. This version knows "
            f"layout {LAYOUT}: upgrade it, or give it another redis.prefix"
        )
    # A control key of a wrong type is reported by the lane itself.
    older = [key for key, layout in zip(keys, layouts, strict=True) if layout < LAYOUT]
    if older:
        await read_all(client, *(("HSET", key, FIELD, LAYOUT) for key in older))
