"""The statistics of one lane over an hour, a day or a month, in as many steps as a chart has bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.redis_client.client import Client
from relay.store.statistics import Counts, merged, read_hours, read_minutes


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time that a page offers."""

    name: str
    seconds: int
    step: int
    """Seconds of one bar."""
    keep: float
    """Seconds for which an answer of Redis is good."""

    @property
    def words(self) -> str:
        """For a sentence: `the last 24 hours`."""
        return {"1h": "the last hour", "24h": "the last 24 hours"}.get(self.name, "the last 30 days")


SPANS: Final = {
    "1h": Span("1h", 3600, 60, 0.9),
    "24h": Span("24h", 86_400, 900, 15.0),
    "30d": Span("30d", 30 * 86_400, 43_200, 60.0),
}


@dataclass(frozen=True, slots=True)
class LaneHistory:
    """The counts of each step, the oldest first, and of all together."""

    span: Span
    starts: Sequence[int]
    steps: Sequence[Counts]
    total: Counts

    @property
    def is_empty(self) -> bool:
        return not (self.total.outcomes or self.total.request.count)


async def read_history(client: Client, prefix: str, provider: str, span: Span, now: float) -> LaneHistory:
    """Read the statistics of a lane up to now. Raises StoreError."""
    if span.seconds > 86_400:
        windows = await read_hours(client, prefix, provider, now=now, hours=span.seconds // 3600)
    else:
        windows = await read_minutes(client, prefix, provider, now=now, minutes=span.seconds // 60)
    last = int(now) // span.step * span.step
    starts = [last - span.step * index for index in range(span.seconds // span.step)][::-1]
    by_start: dict[int, list[Counts]] = {start: [] for start in starts}
    for at, counts in windows:
        start = at // span.step * span.step
        if start in by_start:
            by_start[start].append(counts)
    steps = [merged(found) for found in by_start.values()]
    return LaneHistory(span, starts, steps, merged(steps))
