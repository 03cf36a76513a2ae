"""Fleets with another prefix on the same Redis. Two fleets on one queue get each other's messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client
from relay.store.fleet import LEASE, Fleet, WorkerInfo
from relay.store.keys import FleetKeys


@dataclass(frozen=True, slots=True)
class ForeignWorker:
    """A worker of another fleet, and the queues that it shares with ours."""

    prefix: str
    info: WorkerInfo
    queues: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"a worker with `redis.prefix: {self.prefix}` ({self.info.host} pid {self.info.pid}) also "
            f"takes from {', '.join(self.queues)}: each message goes to one of the two fleets at random"
        )


async def foreign_workers(client: Client, prefix: str, queues: Iterable[str]) -> list[ForeignWorker]:
    """Return the living workers with another prefix that read one of these queues.

    Their fleets are found by their pub/sub channels, because Redis has no other list of prefixes except all
    keys. Empty if a right for that is missing.
    """
    suffix = FleetKeys("").wake
    try:
        channels: Any = await client.pubsub_channels(f"*{suffix}")
    except REDIS_ERRORS:
        return []
    others = {channel.decode("utf-8", "replace").removesuffix(suffix) for channel in channels} - {prefix}
    ours = frozenset(queues)
    found = await asyncio.gather(*(_members(client, other, ours) for other in sorted(others)))
    return [worker for fleet in found for worker in fleet]


async def _members(client: Client, prefix: str, queues: frozenset[str]) -> list[ForeignWorker]:
    try:
        members = await Fleet(client, prefix).members()
    except StoreError:
        return []
    shared = ((member, tuple(sorted(queues.intersection(member.info.queues)))) for member in members)
    return [
        ForeignWorker(prefix, member.info, names)
        for member, names in shared
        if names and member.silent <= LEASE
    ]
