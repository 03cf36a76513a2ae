"""The state of all queues, lanes and workers for operators, read in a few round trips."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from relay.errors import StoreError
from relay.redis_client.client import Client, is_refusal
from relay.settings.models import Settings
from relay.store import lane_settings, registry
from relay.store.alerts import Alert, firing
from relay.store.fleet import Fleet, Member
from relay.store.lane_detail import NO_DETAIL, LaneDetail, read_detail
from relay.store.lane_settings import NO_SETTINGS, FleetSettings, Published
from relay.store.lane_status import TOTALS, LaneStatus, read_lane, read_lanes
from relay.store.queue_status import QueueStatus, read_queues
from relay.store.reading import in_steps
from relay.store.recent import MINUTES, recent
from relay.store.registry import NO_NAMES, Names
from relay.store.statistics import Counts, merged, read_minutes, read_rates
from relay.store.vitals import Duty, total

__all__ = ["TOTALS", "LaneStatus", "Overview", "QueueStatus", "read_lane", "read_overview", "read_provider"]

ResultT = TypeVar("ResultT")

NO_COUNTS = Counts()


@dataclass(frozen=True, slots=True)
class Overview:
    """The state at one time. `at` is Redis's clock in Unix seconds.

    `errors` has one line for each part of the fleet that could not be read. `abandoned` are registered names
    that hold nothing, and that neither the file nor a living worker names.
    """

    at: float
    queues: Sequence[QueueStatus]
    lanes: Sequence[LaneStatus]
    workers: Sequence[Member]
    lost: Sequence[Member] = ()
    """Workers that died within the last minutes. Workers that left normally are not included."""
    errors: Sequence[str] = ()
    abandoned: Names = NO_NAMES
    differing: Sequence[str] = ()
    """The lanes for which living workers have different settings."""
    hour: Counts = NO_COUNTS
    """The statistics of the last hour, if this is about one lane."""
    detail: LaneDetail = NO_DETAIL
    """The parts of the backlog and the holds of the last hour, if this is about one lane."""
    alerts: Sequence[Alert] = ()
    """The alerts that are firing, the oldest first."""

    @property
    def alive(self) -> list[Member]:
        """The workers with a recent heartbeat."""
        return [member for member in self.workers if member.is_alive]

    @property
    def digests(self) -> dict[str, float]:
        """The settings of living workers, with the last start of a worker that has them."""
        return _digests(self.alive)


@dataclass(frozen=True, slots=True)
class _Fleet:
    """The workers of a fleet, the names that they have registered, and the settings in force."""

    now: float
    members: Sequence[Member]
    lost: Sequence[Member]
    known: Names
    published: FleetSettings
    own: Published
    """The settings of the reader's file."""
    alerts: Sequence[Alert]
    errors: list[str]

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.is_alive]

    @property
    def working(self) -> list[Member]:
        """The living workers that take messages."""
        return [member for member in self.alive if member.duty is Duty.SERVING]

    @property
    def digests(self) -> dict[str, float]:
        return _digests(self.alive)

    def settings(self) -> Published:
        """The settings in force; for lanes that no worker has published, those of the file."""
        published = self.published.in_force(self.digests)
        return Published(
            published.at, {**self.own.lanes, **published.lanes}, {**self.own.queues, **published.queues}
        )

    def lanes(self) -> dict[str, list[str]]:
        """All lanes with the workers that may hold messages of them: first those of the file."""
        served = (name for member in self.alive for name in member.info.lanes)
        names = dict.fromkeys((*self.own.lanes, *sorted({*self.known.lanes, *served})))
        return _by_name(names, [(each.info.worker, frozenset(each.info.lanes)) for each in self.members])

    def queues(self) -> dict[str, list[str]]:
        """The same for queues."""
        served = (name for member in self.alive for name in member.info.queues)
        names = dict.fromkeys((*self.own.queues, *sorted({*self.known.queues, *served})))
        return _by_name(names, [(each.info.worker, frozenset(each.info.queues)) for each in self.members])

    def serves_lane(self) -> Callable[[str], bool]:
        """Return whether a living worker takes messages of a lane, as a function of its name."""
        return _serves([frozenset(each.info.lanes) for each in self.working])

    def serves_queue(self) -> Callable[[str], bool]:
        """The same for queues."""
        return _serves([frozenset(each.info.queues) for each in self.working])

    def queue(self, queue: QueueStatus, serves: Callable[[str], bool]) -> QueueStatus:
        """Add the fleet's facts about the queue."""
        return replace(
            queue,
            configured=queue.name in self.own.queues,
            served=serves(queue.name),
            flow=total(
                each.info.vitals.queues[queue.name]
                for each in self.alive
                if each.info.vitals and queue.name in each.info.vitals.queues
            ),
        )


async def read_overview(client: Client, settings: Settings, own: Published | None = None) -> Overview:
    """Read everything about the queues and providers of the fleet and of the settings.

    Those that neither the settings nor a living worker names appear if they hold messages. A key that cannot
    be read spoils its own row alone. `own` is `Published.of(settings)`, for callers that read often. Raises
    StoreError if Redis cannot be reached.
    """
    prefix = settings.redis.prefix
    fleet = await _read_fleet(client, settings, own or Published.of(settings))
    serves = fleet.serves_queue()
    found = await read_queues(client, prefix, fleet.queues(), fleet.now)
    queues = [fleet.queue(queue, serves) async for queue in in_steps(found)]
    lanes = await _read_lanes(client, prefix, fleet, fleet.lanes())
    return Overview(
        fleet.now,
        [queue for queue in queues if queue.configured or queue.served or not queue.is_empty],
        [lane for lane in lanes if lane.configured or lane.served or not lane.is_empty],
        fleet.members,
        fleet.lost,
        fleet.errors,
        Names(
            _abandoned((lane.provider, lane) for lane in lanes),
            _abandoned((queue.name, queue) for queue in queues),
        ),
        fleet.published.differing(fleet.digests),
        alerts=fleet.alerts,
    )


async def read_provider(
    client: Client, settings: Settings, provider: str, own: Published | None = None
) -> Overview:
    """The lane of one provider, and the workers. No lane if nothing is known of the provider.

    `own` is as for `read_overview`. Raises StoreError if Redis cannot be reached.
    """
    fleet = await _read_fleet(client, settings, own or Published.of(settings))
    known = fleet.lanes()
    found = {provider: known[provider]} if provider in known else {}
    prefix = settings.redis.prefix
    lanes = await _read_lanes(client, prefix, fleet, found)
    minutes = await read_minutes(client, prefix, provider, now=fleet.now, minutes=60) if found else []
    return Overview(
        fleet.now,
        [],
        lanes,
        fleet.members,
        fleet.lost,
        errors=fleet.errors,
        differing=[name for name in fleet.published.differing(fleet.digests) if name == provider],
        hour=merged(counts for _, counts in minutes),
        detail=await read_detail(client, prefix, provider, since=fleet.now - 3600) if found else NO_DETAIL,
        alerts=[alert for alert in fleet.alerts if alert.provider == provider],
    )


async def _read_lanes(
    client: Client, prefix: str, fleet: _Fleet, workers: Mapping[str, Sequence[str]]
) -> list[LaneStatus]:
    """Read lanes with their settings and present rates."""
    in_force, now = fleet.settings(), fleet.now
    lanes = await read_lanes(client, prefix, workers, now)
    # A lane that has never received a message has no statistics.
    used = [lane.provider for lane in lanes if any(lane.totals.values())]
    minutes = await read_rates(client, prefix, used, now=now, minutes=MINUTES)
    serves = fleet.serves_lane()
    return [
        replace(
            lane,
            configured=lane.provider in fleet.own.lanes,
            served=serves(lane.provider),
            settings=in_force.lanes.get(lane.provider),
            recent=recent(minutes.get(lane.provider, ()), now),
        )
        async for lane in in_steps(lanes)
    ]


async def _read_fleet(client: Client, settings: Settings, own: Published) -> _Fleet:
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    errors: list[str] = []
    members: list[Member] = await _or_default(fleet.members(), [], errors)
    now = await _or_default(fleet.now(), time.time(), errors)
    gone: list[Member] = await _or_default(fleet.gone(), [], errors)
    known = await _or_default(registry.known(client, prefix), NO_NAMES, errors)
    published = await _or_default(lane_settings.read(client, prefix), NO_SETTINGS, errors)
    alerts: list[Alert] = await _or_default(firing(client, prefix), [], errors)
    return _Fleet(
        now,
        members,
        # Versions that do not publish a digest do not publish that they left normally either.
        [member for member in gone if member.info.settings and not member.info.left],
        known,
        published,
        own,
        alerts,
        errors,
    )


def _by_name(names: Iterable[str], workers: Sequence[tuple[str, Collection[str]]]) -> dict[str, list[str]]:
    """Return for each name the workers that have it. Workers of earlier versions do not publish any."""
    return {name: [worker for worker, own in workers if not own or name in own] for name in names}


def _serves(workers: Sequence[frozenset[str]]) -> Callable[[str], bool]:
    """Return whether any of the workers has a name."""
    if not all(workers):
        return lambda _: True
    return frozenset[str]().union(*workers).__contains__


def _digests(members: Iterable[Member]) -> dict[str, float]:
    started: dict[str, float] = {}
    for member in members:
        info = member.info
        started[info.settings] = max(info.started, started.get(info.settings, 0.0))
    return started


def _abandoned(rows: Iterable[tuple[str, LaneStatus | QueueStatus]]) -> tuple[str, ...]:
    return tuple(name for name, row in rows if row.is_empty and not (row.configured or row.served))


async def _or_default(reading: Awaitable[ResultT], default: ResultT, errors: list[str]) -> ResultT:
    """Return the result. If Redis refuses the command, return the default and add the reason to `errors`."""
    try:
        return await reading
    except StoreError as error:
        if not is_refusal(error):
            raise
        errors.append(str(error))
        return default
