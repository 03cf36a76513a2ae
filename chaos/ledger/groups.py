"""Failing groups neither slow down other groups nor use their limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from chaos.configuration import GROUP_CONCURRENCY
from chaos.evidence import Arrival
from chaos.ledger.index import EvidenceIndex
from chaos.ledger.verdict import Violation
from chaos.messages import HEALTHY_GROUPS, HEALTHY_LANE, MIXED_LANE

RATIO, SLACK = 3.0, 1.0
"""Maximum ratio of a healthy group's median delay to that of the lane without failing groups, and a tolerance
in seconds."""

LONGEST = 30.0
"""Tolerance in seconds for the slowest message, compared with the lane without failing groups: its worker may
have died, and the lease has to expire."""

FEWEST = 5
"""Minimum number of messages of a group for a meaningful median."""

CLOSED = 0.1
"""Seconds after which a receiver notes, at the latest, that the other side gave up a request."""


def delays(index: EvidenceIndex) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """Return seconds from push to first acceptance, by lane and group."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, push in index.evidence.pushes.items():
        accepted = index.accepted(number)
        if push.group and accepted and number in index.evidence.pushed:
            delay = accepted[0].at - index.evidence.pushed[number].started
            found[push.provider][push.group].append(delay)
    return found


def check_groups(index: EvidenceIndex) -> Iterator[Violation]:
    """Compare healthy groups with the lane without failing groups, and check the concurrency of all
    groups."""
    yield from _check_delays(index)
    by_group: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
    for arrival in index.evidence.arrivals:
        if arrival.group:
            by_group[arrival.provider, arrival.group].append(arrival)
    for (provider, group), arrivals in by_group.items():
        yield from _check_concurrency(index, f"{provider}, group {group}", arrivals)


def _check_delays(index: EvidenceIndex) -> Iterator[Violation]:
    found = delays(index)
    healthy = [delay for group in found[HEALTHY_LANE].values() for delay in group]
    if len(healthy) < FEWEST:
        return
    allowed, latest = RATIO * median(healthy) + SLACK, max(healthy) + LONGEST
    for group in HEALTHY_GROUPS:
        own = found[MIXED_LANE].get(group, ())
        if len(own) >= FEWEST and median(own) > allowed:
            yield Violation(
                "starved",
                f"group {group}: median delay {median(own):.2f} s, "
                f"{median(healthy):.2f} s without failing groups",
            )
        for late in (delay for delay in own if delay > latest):
            yield Violation("starved", f"group {group}: a message took {late:.1f} s")


def _check_concurrency(index: EvidenceIndex, name: str, arrivals: Sequence[Arrival]) -> Iterator[Violation]:
    """Check that a group never has more requests in flight than its concurrency, over the fleet.

    A request of a worker that died or was frozen may last beyond the worker's recovery.
    """
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
