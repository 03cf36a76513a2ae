"""The troubles of a fleet: the severity of each lane and queue, and one sentence about all. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Final

from relay.settings.durations import rough_duration
from relay.store.groups import FAILING
from relay.store.overview import LaneStatus, Overview, QueueStatus
from relay.store.states import State
from relay.text import printable

NAMED = 2
"""Lanes of one kind of trouble that the sentence names. The others are counted."""


class Level(IntEnum):
    """The severity of a condition."""

    FINE = 0
    NOTE = 1
    """It ends on its own, or an operator wants it."""
    TROUBLE = 2
    """Somebody has to act."""


_LEVELS: Final[Mapping[str, Level]] = {
    State.RUNNING: Level.FINE,
    State.PAUSED: Level.NOTE,
    State.THROTTLED: Level.NOTE,
    State.TRIAL: Level.NOTE,
}

_SENTENCES: Final[Mapping[str, tuple[str, str]]] = {
    "unreadable": ("Redis refuses to read the lane {}", "Redis refuses to read the lanes {}"),
    State.UNAUTHORISED: ("{} refuses our credentials", "{} refuse our credentials"),
    State.UNREGISTERED: ("{} has too many targets that are gone", "{} have too many targets that are gone"),
    State.FAULTY: ("the adapter of {} fails on every message", "the adapters of {} fail on every message"),
    State.OPEN: ("{} fails", "{} fail"),
    "unserved": ("no worker serves {}", "no worker serves {}"),
    State.THROTTLED: ("{} asked relay to wait", "{} asked relay to wait"),
    State.PAUSED: ("{} is paused", "{} are paused"),
    State.TRIAL: ("{} refused a message", "{} refused a message each"),
}
"""For one lane, and for several, the most serious first."""


def level_of(lane: LaneStatus) -> Level:
    """Return how serious the state of a lane is."""
    if lane.error or is_unserved(lane):
        return Level.TROUBLE
    if lane.state == State.RUNNING and failing_groups(lane):
        return Level.NOTE
    return _LEVELS.get(lane.state, Level.TROUBLE)


def failing_groups(lane: LaneStatus) -> int:
    """Return how many groups are disabled or have an open breaker."""
    return sum(group.state in FAILING for group in lane.groups.found)


def is_unserved(lane: LaneStatus) -> bool:
    """Return whether messages wait in a lane that no worker serves."""
    return not lane.served and lane.backlog > 0


def queue_level(queue: QueueStatus) -> Level:
    """Return how serious the state of a queue is."""
    return Level.TROUBLE if queue.error or (queue.waiting and not queue.served) else Level.FINE


def in_trouble(overview: Overview) -> bool:
    """Return whether somebody has to act: a lane or a queue is in trouble, or no worker is alive."""
    return bool(
        not overview.alive
        or overview.errors
        or any(level_of(lane) is Level.TROUBLE for lane in overview.lanes)
        or any(queue_level(queue) is Level.TROUBLE for queue in overview.queues)
    )


def trouble_first(lanes: Sequence[LaneStatus]) -> list[LaneStatus]:
    """Return the lanes, the most serious and then the latest ones first; others stay in their order."""
    return sorted(
        lanes,
        key=lambda lane: (-level_of(lane), -(lane.oldest_seconds or 0.0) if level_of(lane) else 0.0),
    )


def sentence_of(kind: str, names: Sequence[str]) -> str:
    """Return a sentence about the lanes in one state: `webpush refuses our credentials`."""
    one, several = _SENTENCES.get(kind, ("{} is " + printable(kind), "{} are " + printable(kind)))
    return (one if len(names) == 1 else several).format(_listed(names))


def summary(overview: Overview) -> str:
    """Return one sentence, for example `webpush refuses our credentials; 12,004 dead, oldest 4m`."""
    lanes = overview.lanes
    clauses = [*_of_fleet(overview), *_of_lanes(lanes), *_of_groups(lanes), *_of_queues(overview.queues)]
    return f"{'; '.join(clauses) or _all_well(overview)}; {_numbers(overview)}"


def _of_fleet(overview: Overview) -> Iterator[str]:
    if not overview.alive:
        yield "no worker is alive"
    if overview.errors:
        yield "Redis refuses to read keys of the fleet"


def _of_lanes(lanes: Sequence[LaneStatus]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {kind: [] for kind in _SENTENCES}
    for lane in lanes:
        if kind := _kind(lane):
            kinds.setdefault(kind, []).append(printable(lane.provider))
    yield from (sentence_of(kind, names) for kind, names in kinds.items() if names)


def _of_groups(lanes: Sequence[LaneStatus]) -> Iterator[str]:
    failing = [
        (number, printable(lane.provider))
        for lane in lanes
        if lane.state == State.RUNNING and (number := failing_groups(lane))
    ]
    if failing:
        numbers = [f"{number:,} group{'s' * (number > 1)} of {name}" for number, name in failing]
        yield f"{_listed(numbers)} fail{'s' * (len(failing) == 1 and failing[0][0] == 1)}"


def _kind(lane: LaneStatus) -> str:
    if lane.error:
        return "unreadable"
    if is_unserved(lane):
        return "unserved"
    return "" if lane.state == State.RUNNING else lane.state


def _of_queues(queues: Sequence[QueueStatus]) -> Iterator[str]:
    refused = [printable(queue.name) for queue in queues if queue.error]
    unread = [
        printable(queue.name) for queue in queues if queue.waiting and not queue.served and not queue.error
    ]
    if refused:
        yield f"Redis refuses to read the queue{'s' * (len(refused) > 1)} {_listed(refused)}"
    if unread:
        yield f"no worker reads {_listed(unread)}"


def _all_well(overview: Overview) -> str:
    lanes = len(overview.lanes)
    return "the only lane is well" if lanes == 1 else f"all {lanes:,} lanes are well"


def _numbers(overview: Overview) -> str:
    waiting = sum(lane.waiting for lane in overview.lanes) + sum(queue.waiting for queue in overview.queues)
    dead = sum(lane.dead for lane in overview.lanes) + sum(queue.rejected for queue in overview.queues)
    rows: list[LaneStatus | QueueStatus] = [*overview.lanes, *overview.queues]
    ages = [row.oldest_seconds for row in rows if row.oldest_seconds is not None]
    parts = [f"{dead:,} dead"] if dead else []
    parts.append(f"{waiting:,} waiting" if waiting else "nothing waits")
    if delayed := sum(lane.delayed for lane in overview.lanes):
        parts.append(f"{delayed:,} delayed")
    if ages:
        parts.append(f"oldest {rough_duration(max(ages))}")
    return ", ".join(parts)


def _listed(names: Sequence[str]) -> str:
    if len(names) <= NAMED:
        return " and ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED:,} more"
