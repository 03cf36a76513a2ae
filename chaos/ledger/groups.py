"""No group pays for another one's trouble: neither with its limits nor with its delays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from chaos.configuration import GROUP_CONCURRENCY
from chaos.evidence import Arrival
from chaos.ledger.index import EvidenceIndex
from chaos.ledger.verdict import Violation
from chaos.messages import CALM_LANE, HEALTHY_GROUPS, TROUBLED_LANE

RATIO, SLACK = 3.0, 1.0
"""The median delay of a healthy group may be so many times that of the lane without sick groups, and so many
seconds more."""

LONGEST = 30.0
"""Seconds by which one message may be later than the latest of the lane without sick groups: the worker that
had claimed it may have died, and its lease has to end."""

FEWEST = 5
"""Messages of a group below which a median means nothing."""

CLOSED = 0.1
"""Seconds after which a receiver notes, at the latest, that the other side gave up a request."""


def delays(index: EvidenceIndex) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """Seconds from push to first acceptance, by lane and group."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, push in index.evidence.pushes.items():
        accepted = index.accepted(number)
        if push.group and accepted and number in index.evidence.pushed:
            delay = accepted[0].at - index.evidence.pushed[number].started
            found[push.provider][push.group].append(delay)
    return found


def check_groups(index: EvidenceIndex) -> Iterator[Violation]:
    """Healthy groups are as fast as in the lane without sick ones, and no group has too many requests."""
    yield from _check_delays(index)
    by_group: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
    for arrival in index.evidence.arrivals:
        if arrival.group:
            by_group[arrival.provider, arrival.group].append(arrival)
    for (provider, group), arrivals in by_group.items():
        yield from _check_concurrency(index, f"{provider}, group {group}", arrivals)


def _check_delays(index: EvidenceIndex) -> Iterator[Violation]:
    found = delays(index)
    calm = [delay for group in found[CALM_LANE].values() for delay in group]
    if len(calm) < FEWEST:
        return
    allowed, latest = RATIO * median(calm) + SLACK, max(calm) + LONGEST
    for group in HEALTHY_GROUPS:
        own = found[TROUBLED_LANE].get(group, ())
        if len(own) >= FEWEST and median(own) > allowed:
            yield Violation(
                "starved",
                f"group {group}: median delay {median(own):.2f} s, {median(calm):.2f} s without sick groups",
            )
        for late in (delay for delay in own if delay > latest):
            yield Violation("starved", f"group {group}: a message took {late:.1f} s")


def _check_concurrency(index: EvidenceIndex, name: str, arrivals: Sequence[Arrival]) -> Iterator[Violation]:
    """Never more requests at once than the group's concurrency, over the fleet. A request of a worker that
    died or was frozen may last beyond its recovery."""
    moments = sorted(
        moment
        for arrival in arrivals
        for moment in ((arrival.at, 1), (max(arrival.at, arrival.ended - CLOSED), -1))
    )
    running = 0
    for at, change in moments:
        running += change
        if running > GROUP_CONCURRENCY * (1 + index.late(at, at)):
            yield Violation("too many", f"{name}: {running} requests at once", at=at)
            return
