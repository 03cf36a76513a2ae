"""No window at a receiver exceeds burst + rate x window, over the whole fleet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from chaos.configuration import Configuration, Limit
from chaos.evidence import Arrival
from chaos.ledger.index import EvidenceIndex
from chaos.ledger.verdict import Violation

JITTER = 0.15
"""Seconds by which requests may be closer together at the receiver than when they were sent."""


def check_rates(index: EvidenceIndex, configuration: Configuration) -> Iterator[Violation]:
    """A bucket that leaks at the rate shows the excess of the worst window as its highest level."""
    for provider, limit in configuration.limits.items():
        arrivals = sorted(
            (arrival for arrival in index.evidence.arrivals if arrival.provider == provider),
            key=lambda arrival: arrival.at,
        )
        yield from _check(index, provider, limit, arrivals)
    by_group: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
    for arrival in sorted(index.evidence.arrivals, key=lambda arrival: arrival.at):
        if arrival.group:
            by_group[arrival.provider, arrival.group].append(arrival)
    for (provider, group), arrivals in by_group.items():
        yield from _check(index, f"{provider}, group {group}", configuration.group, arrivals)


def _check(index: EvidenceIndex, provider: str, limit: Limit, arrivals: list[Arrival]) -> Iterator[Violation]:
    level, last, start, reported = 0.0, 0.0, 0.0, 0.0
    firsts: dict[str, float] = {}
    for arrival in arrivals:
        firsts.setdefault(arrival.host, arrival.at)
        level -= (arrival.at - last) * limit.rate
        last = arrival.at
        if level <= 0:
            level, start = 0.0, arrival.at
        level += 1
        if level <= limit.burst or last - reported < 1:
            continue
        allowed = _allowed(index, provider, limit, firsts.values(), start, last)
        if level > allowed:
            reported = last
            yield Violation(
                "too fast",
                f"{provider}: {level - limit.burst:.0f} more than burst {limit.burst} + {limit.rate:g}/s "
                f"within {last - start:.2f} s; {allowed - limit.burst:.0f} are explained",
                at=last,
            )


def _allowed(
    index: EvidenceIndex, provider: str, limit: Limit, firsts: Iterable[float], start: float, end: float
) -> float:
    """Return the bucket, arrivals during a lag of the receiver, and one bucket for each delayed host."""
    lag = max((lag for at, lag in index.evidence.lags if start - 1 <= at <= end + 1), default=0.0)
    # Each process loads its HTTP client with the first request, which delays that request.
    hosts = index.late(start, end) + sum(start <= at <= end for at in firsts)
    reloads = sum(
        window.kind == "reload" and window.overlaps(start, end) for window in index.evidence.windows
    )
    buckets = 1 + hosts + (2 * reloads if provider == "changing" else 0)
    return limit.burst * buckets + limit.rate * (JITTER + lag)
