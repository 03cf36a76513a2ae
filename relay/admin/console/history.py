"""The last hour of the lanes that somebody looks at, by minute, for sparklines.

A minute that is over does not change, so it is read once. The minutes of lanes that appear on a page are read
a few lanes at a time, so that no sample takes long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.redis_client.client import Client
from relay.store.statistics import Counts, read_rates

MINUTES = 60

RECENT = 5
"""Minutes over which the use of the rate limit is shown."""


@dataclass(frozen=True, slots=True)
class HistoryTuning:
    """Limits of one refresh."""

    new_lanes: int = 100
    """Lanes whose whole hour is read."""
    keep: float = 30.0
    """Seconds for which a lane stays up to date after a page has shown it."""


@dataclass(frozen=True, slots=True)
class Minute:
    """The counts of one minute of a lane."""

    sent: int = 0
    failed: int = 0
    throttled: int = 0
    limited: int = 0
    """Messages that were sent while a rate applied."""
    allowed: float = 0.0

    @classmethod
    def of(cls, counts: Counts) -> Minute:
        outcomes = counts.outcomes
        return cls(
            outcomes.get("delivered", 0),
            counts.failures,
            outcomes.get("throttled", 0),
            counts.sent,
            counts.allowed,
        )


@dataclass(frozen=True, slots=True)
class Hour:
    """The last hour of a lane. The present minute is the last one."""

    sent: Sequence[int] = ()
    failed: Sequence[int] = ()
    used: float | None = None
    """The share of the rate limit that was used in the last minutes; None without a rate."""


NO_HOUR = Hour()


@dataclass(slots=True)
class _Known:
    minutes: dict[int, Minute] = field(default_factory=dict)
    wanted: float = 0.0


class History:
    """The last hour of the lanes that pages show."""

    def __init__(
        self,
        prefix: str,
        tuning: HistoryTuning = HistoryTuning(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = prefix
        self._tuning = tuning
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._wanted: dict[str, float] = {}

    def want(self, providers: Iterable[str]) -> None:
        """Note that a page shows these lanes."""
        now = self._clock()
        self._wanted.update(dict.fromkeys(providers, now))

    async def refresh(self, client: Client, now: float, active: Callable[[str], bool]) -> None:
        """Read new lanes, and the last minutes of `active` ones. Raises StoreError."""
        oldest = self._clock() - self._tuning.keep
        self._wanted = {name: at for name, at in self._wanted.items() if at >= oldest}
        self._known = {name: known for name, known in self._known.items() if name in self._wanted}
        current = [name for name in self._known if active(name)]
        new = [name for name in self._wanted if name not in self._known][: self._tuning.new_lanes]
        for names, minutes in ((new, MINUTES), (current, 2)):
            if names:
                found = await read_rates(client, self._prefix, names, now=now, minutes=minutes)
                for name, windows in found.items():
                    known = self._known.setdefault(name, _Known())
                    known.minutes.update((start, Minute.of(counts)) for start, counts in windows)
        first = int(now) // 60 * 60 - 60 * MINUTES
        for known in self._known.values():
            known.minutes = {start: minute for start, minute in known.minutes.items() if start > first}

    def hours(self, now: float) -> Mapping[str, Hour]:
        """Return the last hour of each lane that is known."""
        last = int(now) // 60 * 60
        starts = range(last - 60 * (MINUTES - 1), last + 1, 60)
        return {
            name: _hour([known.minutes.get(start, _NOTHING) for start in starts])
            for name, known in self._known.items()
        }


_NOTHING = Minute()


def _hour(minutes: Sequence[Minute]) -> Hour:
    recent = minutes[-RECENT:]
    allowed = sum(minute.allowed for minute in recent)
    return Hour(
        [minute.sent for minute in minutes],
        [minute.failed for minute in minutes],
        sum(minute.limited for minute in recent) / allowed if allowed else None,
    )
