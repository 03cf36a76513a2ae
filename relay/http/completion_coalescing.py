"""Completion coalescing: handle the responses of a client with threads of its own in batches.

pyreqwest hands over each response by itself: it takes the interpreter's lock and wakes the event loop. At
thousands of responses a second both threads spend most of their time on waking and blocking each other. As
network cards do with interrupts, the event loop then sleeps for a moment that nothing can end, and handles
together what has arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable

PAUSE = 0.001
"""Length of one pause in seconds: the most by which everything on the event loop is delayed."""

BUSY_RATE = 3000.0
"""Responses a second from which on the loop pauses. Below it, a pause would only delay them."""

WINDOW = 0.002
"""Seconds over which the rate is measured."""


def _sleep(seconds: float) -> None:
    # Unlike `time.sleep`, this does not depend on a clock that may be set meanwhile.
    select.select((), (), (), seconds)


class CompletionCoalescer:
    """Pauses an event loop while responses arrive at a high rate."""

    def __init__(
        self,
        pause: float = PAUSE,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = _sleep,
    ) -> None:
        self._pause = pause
        self._clock = clock
        self._sleep = sleep
        self._responses = 0
        self._seen = 0
        self._window = (clock(), 0)
        self.busy = False
        """Whether responses arrive at a high rate."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop in which a check is scheduled."""

    def completed(self) -> None:
        """Count a response. May pause the loop soon, after everything that is ready has been handled."""
        self._responses += 1
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._seen = self._responses
            loop.call_soon(self._check)

    def _check(self) -> None:
        if self._responses != self._seen:
            # More arrived since: there is work to do, so no reason to pause yet.
            self._seen = self._responses
            asyncio.get_running_loop().call_soon(self._check)
            return
        self._loop = None
        now = self._clock()
        since, before = self._window
        if now - since >= WINDOW:
            self.busy = self._responses - before >= BUSY_RATE * (now - since)
            self._window = (now, self._responses)
        if self.busy:
            self._sleep(self._pause)
