"""Measures the vitals of a worker, which it publishes with each heartbeat."""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from relay.engine.dispatcher import Dispatcher
from relay.engine.intake import Intake
from relay.store.vitals import FLOW_SECONDS, SHARE_SECONDS, Duty, QueueFlow, Vitals


class Flow:
    """Counts the elements of one queue, over windows of time."""

    def __init__(self, now: float) -> None:
        self._counts: deque[tuple[float, int, int]] = deque([(now, 0, 0)])
        """The totals at earlier times, the oldest first; one of them is older than `SHARE_SECONDS`."""

    def count(self, now: float, taken: int, malformed: int) -> QueueFlow | None:
        """Return the flow until now, from the totals; None if nothing was taken lately."""
        counts = self._counts
        counts.append((now, taken, malformed))
        while len(counts) > 2 and counts[1][0] <= now - SHARE_SECONDS:
            counts.popleft()
        _, taken_before, malformed_before = counts[0]
        if taken == taken_before:
            return None
        then, recently, _ = next(
            (each for each in reversed(counts) if each[0] <= now - FLOW_SECONDS), counts[0]
        )
        seconds = max(now - then, 0.001)
        return QueueFlow(
            round((taken - recently) / seconds, 3), taken - taken_before, malformed - malformed_before
        )


class VitalsMeter:
    """Measures one worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._measured = clock(), time.process_time()
        self._intakes: Sequence[Intake] = ()
        self._dispatchers: Collection[Dispatcher] = ()
        self._flows: Mapping[str, Flow] = {}
        self.duty = Duty.SERVING

    def observe(self, intakes: Sequence[Intake], dispatchers: Collection[Dispatcher]) -> None:
        """Measure these from now on."""
        self._intakes, self._dispatchers = intakes, dispatchers
        self._flows = {intake.queue.name: Flow(self._clock()) for intake in intakes}

    def measure(self) -> Vitals:
        """Return the present state."""
        now, used = self._clock(), time.process_time()
        (before, used_before), self._measured = self._measured, (now, used)
        flows = {
            intake.queue.name: self._flows[intake.queue.name].count(now, intake.taken, intake.malformed)
            for intake in self._intakes
        }
        return Vitals(
            cpu=round((used - used_before) / max(now - before, 0.001), 3),
            memory=memory(),
            in_flight=sum(dispatcher.in_flight for dispatcher in self._dispatchers),
            duty=self.duty,
            queues={name: flow for name, flow in flows.items() if flow is not None},
        )


def memory() -> int:
    """Return the bytes of this process that are in memory."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        # Its peak, in KiB: better than nothing on a system without /proc.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
