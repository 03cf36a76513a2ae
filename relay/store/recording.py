"""Writes what workers have counted and seen into the statistics and the journals of lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe
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
    """What a worker has counted in a lane since its last flush.

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


class Recording:
    """Writes the reports of one worker."""

    def __init__(self, client: Client, prefix: str, policies: Mapping[str, Policy]) -> None:
        """`policies` are by provider."""
        self._client = client
        self._keys = {provider: LaneKeys.of(prefix, provider) for provider in policies}
        self._policies = {provider: _encode(policy) for provider, policy in policies.items()}

    async def write(self, reports: Mapping[str, Report], now: float) -> dict[str, str]:
        """Write reports by provider in one round trip. `now` is Redis's clock in Unix seconds.

        Returns the lanes whose report may not have arrived, with the reason: send these again as they are.
        Raises StoreError if Redis cannot be reached; the same holds for all reports.
        """
        if not reports:
            return {}
        found = script("record")
        commands = [self._command(provider, report, now) for provider, report in reports.items()]
        try:
            replies = await self._run("EVALSHA", found.digest, commands)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                again = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
                repeated = await self._run("EVAL", found.text, [commands[index] for index in again])
                for index, reply in zip(again, repeated, strict=True):
                    replies[index] = reply
        except REDIS_ERRORS as error:
            raise StoreError(f"record: {describe(error)}") from error
        return {
            provider: describe(reply)
            for provider, reply in zip(reports, replies, strict=True)
            if isinstance(reply, Exception)
        }

    async def _run(self, name: str, source: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(name, source, *command)
            return list(await pipe.execute(raise_on_error=False))

    def _command(self, provider: str, report: Report, now: float) -> tuple[Any, ...]:
        keys = self._keys[provider]
        second = int(now)
        own = [keys.statistics(unit, second // step * step) for unit, step in SECONDS.items()]
        of_lane = keys.of_script(script("record").lane_parts)
        return (
            len(of_lane) + len(own),
            *of_lane,
            *own,
            self._policies[provider],
            report.number,
            _encode(report.counts),
            _encode(report.reasons),
            _encode(report.groups),
            *report.entries,
        )
