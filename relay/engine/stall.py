"""Ends a process that makes no progress, so that its supervisor or the orchestrator starts another one.

The event loop and the heartbeat have to turn; Redis need not be there. Two watchers, since neither sees all:
a thread, for a loop that waits outside of Python (a blocking call), and the CPU timer of the kernel, for one
that computes without ever letting another thread run (a regular expression).
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
    """All in seconds."""

    threshold: float = 3 * LEASE
    """Without a turn for so long, the process ends."""
    cpu: float = 6 * LEASE
    """CPU time without a turn after which the kernel ends it. All threads spend it, so it is longer."""
    tick: float = 1.0
    jump: float = 5.0
    """A tick that comes so late means that the process or the whole machine was suspended: it counts
    nothing."""


TUNING = Tuning()


class StallWatch:
    """Watches one process from `start` on."""

    def __init__(self, tuning: Tuning, end: Callable[[int], object] = os._exit) -> None:
        """`end` ends the process with an exit code."""
        self._tuning = tuning
        self._end = end
        self._main = threading.get_ident()
        # Each is written by one thread only.
        self._turns = 0
        self._tick = threading.Event()
        """Never set. `time.sleep` fails under tools that set the clock of one process."""
        self._ending: tuple[float, int] | None = None
        """The seconds that the process has to end on its own, and the exit code if it does not."""

    def start(self) -> None:
        """Watch from now on; call it in the main thread."""
        # It writes the stacks to standard error, in C, and then lets the signal end the process.
        # Of all threads: the kernel gives the signal to any that used the CPU just then.
        faulthandler.register(signal.SIGPROF, file=2, all_threads=True, chain=True)
        self.turned()
        threading.Thread(target=self._watch, name="stall watch", daemon=True).start()

    def turned(self) -> None:
        """The event loop and the heartbeat are at work."""
        self._turns += 1
        signal.setitimer(signal.ITIMER_PROF, self._tuning.cpu)

    def expect_exit(self, seconds: float, code: int) -> None:
        """From now on there are no turns: the process ends on its own within so many seconds."""
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
