"""The state of all queues, lanes and workers for operators, read in a few round trips."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from relay.errors import StoreError
from relay.redis_client.client import Client, is_refusal
from relay.settings.models import Settings
from relay.store import registry
from relay.store.fleet import LEASE, Fleet, Member
from relay.store.groups import GROUP_PARTS, NO_GROUPS, Groups, read_groups
from relay.store.keys import LaneKeys, QueueKeys
from relay.store.pause import CONTROL_FIELDS, Pause
from relay.store.reading import read_all
from relay.store.registry import NO_NAMES, Names
from relay.store.states import State

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The numbers of one queue.

    `waiting` counts elements of the application's list and elements that wait for a lane; `taken` those on
    processing lists; `rejected` dead letters. `error` is the reason why some numbers could not be read; they
    are 0 then. `configured` is False if the file does not name the queue.
    """

    name: str
    waiting: int
    taken: int
    rejected: int
    error: str = ""
    configured: bool = True

    @property
    def is_empty(self) -> bool:
        return not (self.error or self.waiting or self.taken or self.rejected)


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """The numbers of one lane. Totals count from the creation of the lane.

    `waiting` includes the targets of fan-outs. `error` and `configured`: see `QueueStatus`.
    """

    provider: str
    state: str
    why: str
    hold: float
    waiting: int
    delayed: int
    in_flight: int
    dead: int
    outbox: int
    """Receipts and feedback that are not forwarded yet."""
    outbox_lost: int
    """Receipts and feedback that could not be forwarded, since the creation of the lane."""
    totals: Mapping[str, int]
    pause: Pause | None = None
    suspects: int = 0
    """The waiting messages that the provider refused, for a reason that is not known yet."""
    groups: Groups = NO_GROUPS
    error: str = ""
    configured: bool = True

    @property
    def is_empty(self) -> bool:
        return not (self.error or self.waiting or self.delayed or self.in_flight or self.dead or self.outbox)


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
    "dead_trimmed",
)


@dataclass(frozen=True, slots=True)
class Overview:
    """The state at one time. `at` is Redis's clock in Unix seconds.

    `errors` says what could not be read of the fleet as a whole. `abandoned` are registered names that hold
    nothing, and that neither the file nor a living worker names.
    """

    at: float
    queues: Sequence[QueueStatus]
    lanes: Sequence[LaneStatus]
    workers: Sequence[Member]
    lost: Sequence[Member] = ()
    """Workers that died within the last minutes. Workers that left normally are not included."""
    errors: Sequence[str] = ()
    abandoned: Names = NO_NAMES

    @property
    def alive(self) -> list[Member]:
        """The workers with a recent heartbeat."""
        return [member for member in self.workers if member.silent <= LEASE]


async def read_overview(client: Client, settings: Settings) -> Overview:
    """Read everything about the queues and providers of the settings, and about others that hold messages.

    A key that cannot be read spoils its own row alone. Raises StoreError if Redis cannot be reached.
    """
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    errors: list[str] = []
    members: list[Member] = await _or_default(fleet.members(), [], errors)
    now = await _or_default(fleet.now(), time.time(), errors)
    gone: list[Member] = await _or_default(fleet.gone(), [], errors)
    known = await _or_default(registry.known(client, prefix), NO_NAMES, errors)
    # Versions that do not publish a digest do not publish that they left normally either.
    lost = [member for member in gone if member.info.settings and not member.info.left]
    workers = [member.info.worker for member in members]
    queues = await asyncio.gather(*(_queue(client, prefix, queue.name, workers) for queue in settings.queues))
    lanes = await asyncio.gather(
        *(read_lane(client, prefix, provider, workers, now) for provider in settings.providers)
    )
    other_queues = await asyncio.gather(
        *(
            _queue(client, prefix, name, workers)
            for name in sorted({*known.queues}.difference(queue.name for queue in settings.queues))
        )
    )
    other_lanes = await asyncio.gather(
        *(
            read_lane(client, prefix, name, workers, now)
            for name in sorted({*known.lanes}.difference(settings.providers))
        )
    )
    served = [member.info for member in members if member.silent <= LEASE]
    abandoned = Names(
        tuple(
            lane.provider
            for lane in other_lanes
            if lane.is_empty and not any(lane.provider in worker.lanes for worker in served)
        ),
        tuple(
            queue.name
            for queue in other_queues
            if queue.is_empty and not any(queue.name in worker.queues for worker in served)
        ),
    )
    return Overview(
        now,
        [*queues, *(replace(queue, configured=False) for queue in other_queues if not queue.is_empty)],
        [*lanes, *(replace(lane, configured=False) for lane in other_lanes if not lane.is_empty)],
        members,
        lost,
        errors,
        abandoned,
    )


async def read_provider(client: Client, settings: Settings, provider: str) -> Overview:
    """The lane of one provider, and the workers. No lane if nothing is known of the provider.

    Raises StoreError if Redis cannot be reached.
    """
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    errors: list[str] = []
    members: list[Member] = await _or_default(fleet.members(), [], errors)
    now = await _or_default(fleet.now(), time.time(), errors)
    known = await _or_default(registry.known(client, prefix), NO_NAMES, errors)
    configured = provider in settings.providers
    lanes = []
    if configured or provider in known.lanes:
        workers = [member.info.worker for member in members]
        lane = await read_lane(client, prefix, provider, workers, now)
        lanes.append(replace(lane, configured=configured))
    return Overview(now, [], lanes, members, errors=errors)


async def read_lane(
    client: Client, prefix: str, provider: str, workers: Sequence[str], now: float
) -> LaneStatus:
    """Read the state and the numbers of a lane. `now` is Redis's clock in Unix seconds. Raises StoreError."""
    keys = LaneKeys.of(prefix, provider)
    fields = (*CONTROL_FIELDS, "state", "hold", "reason", "unexpanded", "outbox_lost", *TOTALS)
    (control, bodies, delayed, dead, outbox, suspects, grouped, *inflight), error = await read_all(
        client,
        ("HMGET", keys.part("control"), *fields),
        ("HLEN", keys.part("bodies")),
        ("ZCARD", keys.part("due")),
        ("XLEN", keys.part("dead")),
        ("XLEN", keys.part("outbox")),
        ("HLEN", keys.part("suspects")),
        ("EXISTS", *(keys.part(part) for part in GROUP_PARTS)),
        *(("HLEN", keys.inflight(worker)) for worker in workers),
    )
    texts = [None if value is None else value.decode() for value in control or [None] * len(fields)]
    pause = Pause.of_control(*texts[: len(CONTROL_FIELDS)])
    state, hold, why, unexpanded, outbox_lost, *totals = texts[len(CONTROL_FIELDS) :]
    left = max(0.0, int(hold or 0) / 1000 - now)
    if pause is not None and not pause.holds(now):
        pause = None  # the next claim forgets it
    if pause is not None:
        state, why, left = State.PAUSED.value, str(pause), pause.left(now)
    elif state == State.THROTTLED and not left:
        state = why = None
    in_flight = sum(number or 0 for number in inflight)
    groups = await read_groups(client, keys, now) if grouped else NO_GROUPS
    return LaneStatus(
        provider=provider,
        state="unknown" if control is None else state or State.RUNNING.value,
        why=why or "",
        hold=left,
        waiting=max(0, (bodies or 0) - (delayed or 0) - in_flight) + int(unexpanded or 0),
        delayed=delayed or 0,
        in_flight=in_flight,
        dead=dead or 0,
        outbox=outbox or 0,
        outbox_lost=int(outbox_lost or 0),
        totals={name: int(total or 0) for name, total in zip(TOTALS, totals, strict=True)},
        pause=pause,
        suspects=suspects or 0,
        groups=groups,
        error="; ".join(filter(None, (error, groups.error))),
    )


async def _queue(client: Client, prefix: str, name: str, workers: Sequence[str]) -> QueueStatus:
    keys = QueueKeys.of(prefix, name)
    (waiting, staged, rejected, lanes, *taken), error = await read_all(
        client,
        ("LLEN", name),
        ("LLEN", keys.staged),
        ("XLEN", keys.rejected),
        ("HKEYS", keys.deferred),
        *(("LLEN", keys.processing(worker)) for worker in workers),
    )
    deferred: list[Any] = []
    if lanes:
        commands = [("LLEN", keys.deferred_for(lane.decode())) for lane in lanes]
        deferred, refusals = await read_all(client, *commands)
        error = "; ".join(filter(None, (error, refusals)))
    return QueueStatus(
        name,
        waiting=(waiting or 0) + (staged or 0) + sum(number or 0 for number in deferred),
        taken=sum(number or 0 for number in taken),
        rejected=rejected or 0,
        error=error,
    )


async def _or_default(reading: Awaitable[ResultT], default: ResultT, errors: list[str]) -> ResultT:
    """Return the result. If Redis refuses the command, return the default and add the reason to `errors`."""
    try:
        return await reading
    except StoreError as error:
        if not is_refusal(error):
            raise
        errors.append(str(error))
        return default
