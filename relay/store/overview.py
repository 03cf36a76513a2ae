"""Everything an operator wants to see, read in a few round trips. Read only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.errors import StoreError
from relay.settings.models import Settings
from relay.store.fleet import LEASE, Fleet, Member
from relay.store.keys import LaneKeys, QueueKeys
from relay.store.scripting import TROUBLE, Client, describe


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """`waiting` lie on the application's list, `taken` on processing lists, `rejected` are dead."""

    name: str
    waiting: int
    taken: int
    rejected: int


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """What an operator sees of one lane. Totals count since the lane exists.

    `waiting` counts the targets of fan-outs, too.
    """

    provider: str
    state: str
    why: str
    hold: float
    waiting: int
    delayed: int
    in_flight: int
    dead: int
    totals: Mapping[str, int]


TOTALS = (
    "accepted",
    "delivered",
    "failed",
    "retried",
    "throttled",
    "unregistered",
    "expired",
    "duplicate",
    "collapsed",
    "dropped",
    "cancelled",
    "fanned_out",
    "revived",
    "malformed",
)


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
        *(read_lane(client, prefix, provider, workers, now) for provider in settings.providers)
    )
    return Overview(now, queues, lanes, members)


async def read_lane(
    client: Client, prefix: str, provider: str, workers: Sequence[str], now: float
) -> LaneStatus:
    """The state and the numbers of a lane. `now` is Redis's clock in Unix seconds."""
    keys = LaneKeys.of(prefix, provider)
    try:
        async with client.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.part("control"), ["paused", "state", "hold", "why", "unexpanded", *TOTALS])
            pipe.hlen(keys.part("bodies"))
            pipe.zcard(keys.part("due"))
            pipe.xlen(keys.part("dead"))
            for worker in workers:
                pipe.hlen(keys.inflight(worker))
            control, bodies, delayed, dead, *inflight = await pipe.execute()
    except TROUBLE as error:
        raise StoreError(describe(error)) from error
    texts = (None if value is None else value.decode() for value in control)
    paused, state, hold, why, unexpanded, *totals = texts
    left = max(0.0, int(hold or 0) / 1000 - now)
    if paused:
        state, why, left = "paused", "by an operator", 0.0
    elif state == "throttled" and not left:
        state = why = None
    in_flight = sum(inflight)
    return LaneStatus(
        provider=provider,
        state=state or "running",
        why=why or "",
        hold=left,
        waiting=max(0, bodies - delayed - in_flight) + int(unexpanded or 0),
        delayed=delayed,
        in_flight=in_flight,
        dead=dead,
        totals={name: int(total or 0) for name, total in zip(TOTALS, totals, strict=True)},
    )


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
