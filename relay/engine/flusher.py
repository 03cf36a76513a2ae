"""Writes the counts of all recorders to Redis, once a second."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.engine.recorder import LaneRecorder
from relay.engine.repeats import redis_trouble, thinned
from relay.store.recording import SAMPLE, Recording, Report


@dataclass(frozen=True, slots=True)
class FlushTuning:
    """Durations are in seconds."""

    interval: float = 1.0
    """Wait between two flushes."""
    sample: float = 10.0
    """Take a sample of a lane in which this worker counted nothing after a random half to whole of this."""
    most_lanes: int = 20
    """Lanes in one flush: with more of them, each waits for its turn, so that two hundred lanes do not cost
    Redis more than twenty."""
    most_at_rest: int = 2
    """Samples in one flush of lanes at rest, so that a thousand of them cost hardly more than one."""
    most_rounds: int = 40
    """Reports of one lane in one flush, if it has many entries for the journal."""


class Flusher:
    """The loop of one process over all lanes; `flush` is its step."""

    def __init__(
        self,
        recording: Recording,
        recorders: Mapping[str, LaneRecorder],
        *,
        tuning: FlushTuning = FlushTuning(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`recorders` are by provider; `clock` returns monotonic seconds."""
        self._recording = recording
        self._recorders = recorders
        self._tuning = tuning
        self._clock = clock
        self._number = 0
        self._pending: dict[str, Report] = {}
        """By lane: the report whose reply is missing. It is sent again as it is, and counts once."""
        self._last = clock()
        self._next_sample = {provider: self._last + self._wait() for provider in recorders}
        self._order = list(recorders)
        """The lane that was written longest ago comes first."""

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(self._tuning.interval)
            await self.flush()

    async def flush(self) -> None:
        """Write the new counts of some lanes. Reports that Redis does not accept are kept for the next
        time."""
        now = self._clock()
        for recorder in self._recorders.values():
            recorder.refill(now - self._last)
        self._last = now
        due = self._due(now)
        for _ in range(self._tuning.most_rounds):
            if not due or not await self._write(due):
                return
            due = {
                provider: report
                for provider in due
                if self._recorders[provider].journal and (report := self._take(provider)) is not None
            }

    async def finish(self) -> None:
        """Write everything that is new, at the end of the process.

        This may be the last worker, so an empty report of each lane adds the lane's own counters.
        """
        providers, most = list(self._recorders), self._tuning.most_lanes
        starts = range(0, len(providers), most)
        for _ in (*starts, *starts):  # reports that wait, and then those that are new
            await self.flush()
        for start in starts:
            if self._pending:
                return
            self._number += 1
            number = str(self._number)
            await self._write(dict.fromkeys(providers[start : start + most], Report(number)))

    def _due(self, now: float) -> dict[str, Report]:
        """Return reports of the lanes whose turn it is, and samples of those that have had none for long."""
        due: dict[str, Report] = {}
        at_rest = 0
        for provider in self._order:
            if len(due) == self._tuning.most_lanes:
                break
            report = self._pending.get(provider) or self._take(provider)
            if report is None and now >= self._next_sample[provider]:
                if self._recorders[provider].is_at_rest:
                    if at_rest == self._tuning.most_at_rest:
                        continue
                    at_rest += 1
                report = SAMPLE
            if report is not None:
                due[provider] = report
                self._next_sample[provider] = now + self._wait()
        self._order = [*(name for name in self._order if name not in due), *due]
        return due

    def _wait(self) -> float:
        return self._tuning.sample * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def _take(self, provider: str) -> Report | None:
        recorder = self._recorders[provider]
        if not recorder.has_news:
            return None
        self._number += 1
        report = recorder.take(str(self._number))
        if report is not None:
            self._pending[provider] = report
        return report

    async def _write(self, reports: Mapping[str, Report]) -> bool:
        """Write reports. Returns whether Redis has accepted all of them."""
        failures = await self._recording.write(reports)
        for provider in reports:
            error = failures.get(provider)
            if error is None:
                self._pending.pop(provider, None)
                self._recorders[provider].is_at_rest = provider in self._recording.at_rest
                self._report_loss(provider)
            else:
                redis_trouble.log("cannot write statistics", error, of=provider)
        return not failures

    def _report_loss(self, provider: str) -> None:
        """Log entries that were dropped while Redis was away."""
        journal = self._recorders[provider].journal
        lost, journal.lost = journal.lost, 0
        if lost:
            thinned.log("warning", "journal entries were dropped", provider, "", lost, provider=provider)
