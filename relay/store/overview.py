"""Everything an operator wants to see, read in a few round trips. Read only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import StoreError
from relay.settings.models import Settings
from relay.store.fleet import LEASE, Fleet, Member
from relay.store.keys import QueueKeys
from relay.store.lane import LaneStatus, read_status
from relay.store.scripting import TROUBLE, Client, describe


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """`waiting` lie on the application's list, `taken` on processing lists, `rejected` are dead."""

    name: str
    waiting: int
    taken: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Overview:
    """One look at all of it. `at` is Redis's clock in Unix seconds."""

    at: float
    queues: Sequence[QueueStatus]
    lanes: Sequence[LaneStatus]
    workers: Sequence[Member]

    @property
    def alive(self) -> list[Member]:
        """The workers whose heart beats."""
        return [member for member in self.workers if member.silent <= LEASE]


async def look(client: Client, settings: Settings) -> Overview:
    """Read everything about the queues and providers of the settings. Raises StoreError."""
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    members, now = await fleet.members(), await fleet.now()
    workers = [member.profile.worker for member in members]
    queues = await asyncio.gather(*(_queue(client, prefix, queue.name, workers) for queue in settings.queues))
    lanes = await asyncio.gather(
        *(read_status(client, prefix, provider, workers, now) for provider in settings.providers)
    )
    return Overview(now, queues, lanes, members)


async def _queue(client: Client, prefix: str, name: str, workers: Sequence[str]) -> QueueStatus:
    keys = QueueKeys.of(prefix, name)
    try:
        async with client.pipeline(transaction=False) as pipe:
            pipe.llen(name)
            pipe.llen(keys.staged)
            pipe.xlen(keys.rejected)
            for worker in workers:
                pipe.llen(keys.processing(worker))
            waiting, staged, rejected, *taken = await pipe.execute()
    except TROUBLE as error:
        raise StoreError(describe(error)) from error
    return QueueStatus(name, waiting + staged, sum(taken), rejected)
