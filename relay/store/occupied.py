"""Finds lanes with messages, for the cost of one command for many lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.redis_client.topology import Topology
from relay.store.keys import LaneKeys
from relay.store.reading import read_all

TOGETHER = 200
"""Lanes in one command. If one of them has messages, each of them is read."""


async def occupied(client: Client, prefix: str, providers: Iterable[str]) -> list[str]:
    """Return the providers whose lanes have messages: waiting, delayed or in flight. Raises StoreError.

    A lane that cannot be read counts as occupied: its claim logs the reason.
    """
    keys = {provider: LaneKeys.of(prefix, provider).part("bodies") for provider in providers}
    if Topology.of(client).is_one:
        names = list(keys)
        groups = [names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER)]
        names = [
            name for group in groups if await _any(client, [keys[name] for name in group]) for name in group
        ]
    else:
        names = list(keys)
    if not names:
        return []
    replies, _ = await read_all(client, *(("EXISTS", keys[name]) for name in names))
    return [name for name, reply in zip(names, replies, strict=True) if reply != 0]


async def _any(client: Client, keys: Sequence[str]) -> bool:
    try:
        return bool(await execute(client, "EXISTS", *keys))
    except REDIS_ERRORS as error:
        raise StoreError(f"EXISTS: {describe(error)}") from error
