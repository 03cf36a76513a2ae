"""Ends a process that makes no progress, so that its supervisor or the orchestrator starts another one.

Progress is a turn of the event loop and the heartbeat; Redis does not matter. Two watchers are necessary: a
thread detects a loop that is blocked outside of Python (a blocking call), and the CPU timer of the kernel
detects one that computes without letting other threads run (a regular expression).
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from relay import logs
from relay.store.fleet import LEASE

EXIT_CODE = 70
"""EX_SOFTWARE: an internal error."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tuning:
    """Durations are in seconds."""

    threshold: float = 3 * LEASE
    """End the process after this long without a turn."""
    cpu: float = 6 * LEASE
    """The kernel ends the process after this CPU time without a turn. All threads use it, so it is longer."""
    tick: float = 1.0
    """Wait between two checks."""
    jump: float = 5.0
    """A check that is late by this much does not count: the process or the host was suspended."""


TUNING = Tuning()


class StallWatch:
    """Watches one process from `start` on."""

    def __init__(self, tuning: Tuning, end: Callable[[int], object] = os._exit) -> None:
        """`end` ends the process with an exit code."""
        self._tuning = tuning
        self._end = end
        self._main = threading.get_ident()
        # Each is written by only one thread.
        self._turns = 0
        self._tick = threading.Event()
        """Never set: only its timeout is used, because `time.sleep` fails under tools that change the
        clock."""
        self._ending: tuple[float, int] | None = None
        """Seconds for the process to end on its own, and the exit code if it does not."""

    def start(self) -> None:
        """Start to watch. Call it in the main thread."""
        # Writes the stacks to standard error, in C, and then lets the signal end the process. The stacks are
        # those of all threads, because the kernel delivers the signal to any thread that uses the CPU.
        faulthandler.register(signal.SIGPROF, file=2, all_threads=True, chain=True)
        self.turned()
        threading.Thread(target=self._watch, name="stall watch", daemon=True).start()

    def turned(self) -> None:
        """The event loop and the heartbeat have turned."""
        self._turns += 1
        signal.setitimer(signal.ITIMER_PROF, self._tuning.cpu)

    def expect_exit(self, seconds: float, code: int) -> None:
        """Expect no more turns: the process ends on its own within `seconds`."""
        self._ending = (seconds, code)

    def _watch(self) -> None:
        turns, idle, last = self._turns, 0.0, time.monotonic()
        ending: tuple[float, int] | None = None
        while True:
            self._tick.wait(self._tuning.tick)
            now = time.monotonic()
            passed, last = now - last, now
            if turns != self._turns or ending is not self._ending:
                turns, ending, idle = self._turns, self._ending, 0.0
            elif passed < self._tuning.tick + self._tuning.jump:
                idle += passed
            limit, code = ending or (self._tuning.threshold, EXIT_CODE)
            if idle > limit:
                self._report(idle)
                logs.flush()
                self._end(code)
                return

    def _report(self, idle: float) -> None:
        frame = sys._current_frames().get(self._main)
        logger.critical(
            "this process makes no progress: ending it",
            seconds=round(idle),
            stack=[] if frame is None else [line.strip() for line in traceback.format_stack(frame)],
        )
