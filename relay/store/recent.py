"""The present rates of a lane, from its statistics of the last minutes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.store.statistics import Counts, merged

MINUTES = 3
"""Minutes that are read: the present one and those before it."""

_ENDED = ("delivered", "failed", "unregistered", "expired", "collapsed", "dropped", "cancelled")
_ARRIVED = ("accepted", "revived")


@dataclass(frozen=True, slots=True)
class Recent:
    """The present activity of a lane. Errors and throttled attempts are those of the last minute."""

    delivered_per_second: float = 0.0
    errors_per_second: float = 0.0
    """Failed attempts."""
    throttled_share: float | None = None
    """The share of the attempts that the provider throttled. None without attempts."""
    limit_used: float | None = None
    """The share of the rate limit that was used. None without a rate."""
    drained_per_second: float = 0.0
    """Messages that ended minus those that arrived. Negative if the backlog grows."""


NOTHING_RECENT = Recent()


def recent(windows: Sequence[tuple[int, Counts]], now: float) -> Recent:
    """Return the present rates. `windows` are minutes (start, counts); `now` is in Unix seconds."""
    minute = int(now) // 60 * 60
    last = merged(counts for start, counts in windows if start >= minute - 60)
    seconds = now - (minute - 60)
    delivered, throttled = (last.outcomes.get(name, 0) for name in ("delivered", "throttled"))
    attempts = delivered + throttled + last.failures
    return Recent(
        delivered_per_second=delivered / seconds,
        errors_per_second=last.failures / seconds,
        throttled_share=throttled / attempts if attempts else None,
        limit_used=last.limit_used,
        drained_per_second=_drained(windows, now),
    )


def _drained(windows: Sequence[tuple[int, Counts]], now: float) -> float:
    """Minutes before the first one in which something happened do not count, because the lane was idle."""
    if not windows:
        return 0.0
    outcomes = merged(counts for _, counts in windows).outcomes
    ended, arrived = (sum(outcomes.get(name, 0) for name in names) for names in (_ENDED, _ARRIVED))
    return (ended - arrived) / max(1.0, now - windows[0][0])
