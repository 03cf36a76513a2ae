"""No window at a receiver holds more than burst + rate x window, over the whole fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chaos.evidence import Arrival
from chaos.ledger.account import Account
from chaos.ledger.verdict import Violation
from chaos.setting import Limit, Setting

JITTER = 0.15
"""Seconds by which requests may be nearer to one another at the receiver than when they were sent."""


def check_rates(account: Account, setting: Setting) -> Iterator[Violation]:
    """A bucket that leaks at the rate holds, at its fullest, what the worst window exceeded `rate` by."""
    for provider, limit in setting.limits.items():
        arrivals = sorted(
            (arrival for arrival in account.evidence.arrivals if arrival.provider == provider),
            key=lambda arrival: arrival.at,
        )
        yield from _check(account, provider, limit, arrivals)


def _check(account: Account, provider: str, limit: Limit, arrivals: list[Arrival]) -> Iterator[Violation]:
    level, last, start, told = 0.0, 0.0, 0.0, 0.0
    firsts: dict[str, float] = {}
    for arrival in arrivals:
        firsts.setdefault(arrival.host, arrival.at)
        level -= (arrival.at - last) * limit.rate
        last = arrival.at
        if level <= 0:
            level, start = 0.0, arrival.at
        level += 1
        if level <= limit.burst or last - told < 1:
            continue
        allowed = _allowed(account, provider, limit, firsts.values(), start, last)
        if level > allowed:
            told = last
            yield Violation(
                "too fast",
                f"{provider}: {level - limit.burst:.0f} more than burst {limit.burst} + {limit.rate:g}/s "
                f"within {last - start:.2f} s; {allowed - limit.burst:.0f} can be explained",
                at=last,
            )


def _allowed(
    account: Account, provider: str, limit: Limit, firsts: Iterable[float], start: float, end: float
) -> float:
    """The bucket, what a receiver that was late saw at once, and a bucket for each host that was held up."""
    lag = max((lag for at, lag in account.evidence.lags if start - 1 <= at <= end + 1), default=0.0)
    # A process loads its HTTP client for its first request, which keeps that one.
    hosts = account.late(start, end) + sum(start <= at <= end for at in firsts)
    reloads = sum(
        window.kind == "reload" and window.overlaps(start, end) for window in account.evidence.windows
    )
    buckets = 1 + hosts + (2 * reloads if provider == "changing" else 0)
    return limit.burst * buckets + limit.rate * (JITTER + lag)
