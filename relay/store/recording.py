"""Writes the counts and entries of workers into the statistics and the journals of lanes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.store.fleet import Fleet
from relay.store.histogram import BUCKETS, Histogram
from relay.store.keys import LaneKeys
from relay.store.scripting import script
from relay.store.statistics import SECONDS

LONGEST_REASON = 60
"""Characters of a reason in the statistics: Redis keeps hashes with short fields in a third of the memory."""

_encode = msgspec.msgpack.Encoder().encode


class Policy(msgspec.Struct, frozen=True):
    """The options of a lane that `record.lua` reads, and the worker that writes."""

    worker: str
    rate: float
    """The tightest rate of the lane in messages per second; 0: unlimited."""
    journal: int
    """The most entries of the journal; 0: there is none."""


class Report(msgspec.Struct, frozen=True):
    """The counts of a worker in a lane since its last flush.

    A report whose reply was lost is sent again with the same `number`, and then counts once. An empty
    `number` only takes a sample of the lane.
    """

    number: str = ""
    counts: Mapping[str, int] = {}
    """By field of the statistics (see `record.lua`)."""
    reasons: Mapping[str, int] = {}
    groups: Mapping[str, tuple[int, int]] = {}
    """By group: delivered and failed attempts."""
    entries: Sequence[bytes] = ()
    """Entries for the journal, the oldest first."""


def histogram_fields(kind: str, histogram: Histogram) -> dict[str, int]:
    """Return the fields of a histogram: `d` of deliveries, `q` of requests."""
    fields = {
        f"{kind}:{index}": histogram.counts[index] for index in range(BUCKETS) if histogram.counts[index]
    }
    if fields:
        fields[f"{kind}:sum"] = round(histogram.total * 1_000_000)
    return fields


SAMPLE = Report()
"""Takes a sample of the lane, and counts nothing."""


class Recording:
    """Writes the reports of one worker."""

    def __init__(self, client: Client, prefix: str, policies: Mapping[str, Policy]) -> None:
        """`policies` are by provider."""
        self._client = client
        self._fleet = Fleet(client, prefix)
        self._keys = {provider: LaneKeys.of(prefix, provider) for provider in policies}
        self._policies = {provider: _encode(policy) for provider, policy in policies.items()}
        self.at_rest: set[str] = set()
        """The lanes in which the last report found neither messages nor a hold."""
        self._clocks: float | None = None
        """Redis's clock minus this process's monotonic clock, in seconds."""

    async def write(self, reports: Mapping[str, Report]) -> dict[str, StoreError]:
        """Write reports by provider, all at once over the shared connection.

        Returns the lanes whose report may not have arrived, with the reason: send these again as they are.
        """
        try:
            now = await self._now()
        except StoreError as error:
            return dict.fromkeys(reports, error)
        if len(reports) == 1:
            # Without a task.
            ((provider, report),) = reports.items()
            found = [await self._write_one(provider, report, now)]
        else:
            found = await asyncio.gather(
                *(self._write_one(provider, report, now) for provider, report in reports.items())
            )
        return {provider: error for provider, error in zip(reports, found, strict=True) if error is not None}

    async def _write_one(self, provider: str, report: Report, now: int) -> StoreError | None:
        found, keys = script("record"), self._keys[provider]
        windows = [keys.statistics(unit, now // step * step) for unit, step in SECONDS.items()]
        try:
            moment, is_at_rest = await found.run(
                self._client,
                (*keys.of_script(found.lane_parts), *windows),
                self._policies[provider],
                report.number,
                _encode(report.counts),
                _encode(report.reasons),
                _encode(report.groups),
                *report.entries,
            )
        except StoreError as error:
            return error
        self._clocks = moment / 1000 - time.monotonic()
        if is_at_rest:
            self.at_rest.add(provider)
        else:
            self.at_rest.discard(provider)
        return None

    async def _now(self) -> int:
        """Return Redis's clock in Unix seconds: all workers must name the same minute."""
        if self._clocks is None:
            self._clocks = await self._fleet.now() - time.monotonic()
        return int(self._clocks + time.monotonic())
