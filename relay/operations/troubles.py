"""Everything of a fleet that needs an operator, or may soon, one line each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from relay.operations.summary import Level, is_unserved, level_of, queue_level, sentence_of
from relay.settings.durations import rough_duration
from relay.store.fleet_findings import group_findings
from relay.store.overview import LaneStatus, Overview
from relay.store.states import State
from relay.text import printable

NAMED = 3
"""Queues of one trouble that are named."""

LONGEST_WHY = 300
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing. `place` is the thing that has it; `lane` is set for a lane, its rate and its groups."""

    level: Level
    place: Literal["lane", "rate", "groups", "queues", "workers", "redis"]
    text: str
    detail: str = ""
    lane: LaneStatus | None = None


def troubles(overview: Overview, findings: Sequence[str] = ()) -> list[Trouble]:
    """Return all troubles, the most serious first. `findings` are lines about workers and their files."""
    found = [*_fleet(overview), *_lanes(overview), *_queues(overview)]
    found += [Trouble(Level.NOTE, "workers", printable(line)) for line in findings]
    return sorted(found, key=lambda trouble: -trouble.level)


def reason_of(lane: LaneStatus) -> str:
    """Return the reason for the state of a lane."""
    if lane.error:
        return printable(lane.error[:LONGEST_WHY])
    if is_unknown(lane):
        return "not in the file of this console"
    if is_unserved(lane):
        return "no worker serves it"
    return printable(lane.why[:LONGEST_WHY])


def is_unknown(lane: LaneStatus) -> bool:
    """Return whether neither the file nor a worker names the lane."""
    return not (lane.configured or lane.served)


def _fleet(overview: Overview) -> Iterator[Trouble]:
    if not overview.alive:
        yield Trouble(Level.TROUBLE, "workers", "no worker is alive", "Start one with `relay run`.")
    for error in overview.errors:
        yield Trouble(Level.TROUBLE, "redis", "Redis refuses a command", printable(error))


def _lanes(overview: Overview) -> Iterator[Trouble]:
    for lane in overview.lanes:
        name = printable(lane.provider)
        if lane.error:
            yield Trouble(Level.TROUBLE, "lane", f"some keys of {name} cannot be read", reason_of(lane), lane)
        elif is_unknown(lane):
            detail = "Add the provider to the file, or purge its messages."
            yield Trouble(
                Level.TROUBLE, "lane", f"{name} holds messages and is not in the file", detail, lane
            )
        elif is_unserved(lane):
            if overview.alive:
                detail = "Start one with the provider in its file, or reload the workers."
                yield Trouble(Level.TROUBLE, "lane", f"no worker serves {name}", detail, lane)
        elif lane.state != State.RUNNING:
            yield Trouble(level_of(lane), "lane", _sentence(lane, name), reason_of(lane), lane)
        if lane.override is not None:
            text = f"{name} sends at an operator's rate"
            yield Trouble(Level.NOTE, "rate", text, printable(str(lane.override)), lane)
        for line in group_findings([lane]):
            yield Trouble(Level.NOTE, "groups", printable(line), lane=lane)


def _sentence(lane: LaneStatus, name: str) -> str:
    sentence = sentence_of(lane.state, [name])
    if lane.hold < 1:
        return sentence
    left = rough_duration(lane.hold)
    return f"{sentence} for another {left}" if lane.pause else f"{sentence}; it tries again in {left}"


def _queues(overview: Overview) -> Iterator[Trouble]:
    unread = []
    for queue in overview.queues:
        if queue.error:
            text = f"the queue {printable(queue.name)} cannot be read"
            yield Trouble(Level.TROUBLE, "queues", text, printable(queue.error))
        elif queue_level(queue) is Level.TROUBLE:
            unread.append(queue)
    if unread and overview.alive:
        names = ", ".join(printable(queue.name) for queue in unread[:NAMED])
        others = f" and {len(unread) - NAMED:,} more" if len(unread) > NAMED else ""
        waiting = sum(queue.waiting for queue in unread)
        yield Trouble(
            Level.TROUBLE,
            "queues",
            f"no worker reads the queue{'s' * (len(unread) > 1)} {names}{others}",
            f"{waiting:,} elements wait: add it to the file of a worker, or delete the list.",
        )
