"""The lanes and queues that exist in Redis, including those that left the configuration.

Workers register the names of theirs when they start. So `relay status` finds messages of a removed provider
without a scan of all keys.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe
from relay.store.keys import FleetKeys


@dataclass(frozen=True, slots=True)
class Names:
    """Providers that have a lane, and queues."""

    lanes: tuple[str, ...]
    queues: tuple[str, ...]


NO_NAMES = Names((), ())


async def known(client: Client, prefix: str) -> Names:
    """Return all names that workers have registered, sorted. Raises StoreError."""
    keys = FleetKeys(prefix)
    try:
        async with client.pipeline(transaction=False) as pipe:
            pipe.hkeys(keys.lanes)
            pipe.hkeys(keys.queues)
            lanes, queues = await pipe.execute()
    except REDIS_ERRORS as error:
        raise StoreError(f"registry: {describe(error)}") from error
    return Names(_sorted(lanes), _sorted(queues))


async def register(client: Client, prefix: str, names: Names) -> None:
    """Add these names. Raises StoreError."""
    keys = FleetKeys(prefix)
    now = int(time.time())
    try:
        async with client.pipeline(transaction=False) as pipe:
            for key, found in ((keys.lanes, names.lanes), (keys.queues, names.queues)):
                if found:
                    pipe.hset(key, mapping=dict.fromkeys(found, now))
            await pipe.execute()
    except REDIS_ERRORS as error:
        raise StoreError(f"registry: {describe(error)}") from error


async def unregister(client: Client, prefix: str, names: Names) -> None:
    """Delete these names. Raises StoreError."""
    keys = FleetKeys(prefix)
    try:
        async with client.pipeline(transaction=False) as pipe:
            for key, found in ((keys.lanes, names.lanes), (keys.queues, names.queues)):
                if found:
                    pipe.hdel(key, *found)
            await pipe.execute()
    except REDIS_ERRORS as error:
        raise StoreError(f"registry: {describe(error)}") from error


def _sorted(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted(name.decode("utf-8", "replace") for name in names))
