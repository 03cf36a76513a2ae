"""The number of targets that are gone, by provider and over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from relay.redis_client.client import Client
from relay.store.overview import LaneStatus
from relay.store.statistics import Counts, read_hours, read_recent

HOURS = 24


@dataclass(frozen=True, slots=True)
class GoneTargets:
    """The targets of one provider that no longer exist, in numbers."""

    provider: str
    total: int
    last_hour: int
    """Within the last 60 minutes."""
    hours: Sequence[int]
    """Each of the last 24 hours, the present one last."""

    @property
    def last_day(self) -> int:
        return sum(self.hours)


async def gone_targets(
    client: Client, prefix: str, lanes: Iterable[LaneStatus], now: float
) -> list[GoneTargets]:
    """Return the lanes of which targets are gone, those with the most lately first. Raises StoreError."""
    totals = {lane.provider: total for lane in lanes if (total := lane.totals["unregistered"])}
    minutes = await read_recent(client, prefix, totals, now=now, minutes=60)
    last = int(now) // 3600 * 3600
    found = []
    for provider, total in totals.items():
        hours = dict(await read_hours(client, prefix, provider, now=now, hours=HOURS))
        starts = [last - 3600 * index for index in range(HOURS)][::-1]
        numbers = [_gone(hours[start]) if start in hours else 0 for start in starts]
        found.append(GoneTargets(provider, total, _gone(minutes[provider]), numbers))
    return sorted(found, key=lambda one: (-one.last_hour, -one.last_day, -one.total))


class GoneDocument(TypedDict):
    """The targets of one provider that are gone, in numbers."""

    provider: str
    last_hour: int
    last_day: int
    total: int


def gone_document(gone: GoneTargets) -> GoneDocument:
    """Return the numbers of one provider."""
    return {
        "provider": gone.provider,
        "last_hour": gone.last_hour,
        "last_day": gone.last_day,
        "total": gone.total,
    }


def _gone(counts: Counts) -> int:
    return counts.outcomes.get("unregistered", 0)
