"""Takes answers in batches from a client that works in a thread of its own.

pyreqwest hands each answer over by itself: it takes the interpreter's lock and wakes the event loop. On an
idle machine the loop is quick, and the two threads wake and block each other at each of thousands of answers
a second: that takes more than all else that is done for a message. Network cards had the same trouble with
interrupts, and it has the same cure: where answers come thick and fast, the loop rests for a moment that
nothing can end, and takes together what has come meanwhile.
"""

from __future__ import annotations

import asyncio
import select
import time

REST = 0.001
"""Seconds of one rest: everything that the loop serves is later by that much at most."""

BUSY = 3000.0
"""Answers a second from which on the loop rests: for each one that comes alone it would only be late."""

WINDOW = 0.002
"""Seconds over which the rate is taken."""


class Rests:
    """The rests of an event loop, and whether there is cause for any."""

    def __init__(self) -> None:
        self._answers = 0
        self._seen = 0
        self._window = (time.monotonic(), 0)
        self.busy = False
        """Whether answers come thick and fast."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """In which a look is due."""

    def answered(self) -> None:
        """One more answer is there. Takes a rest soon, once what is there has been dealt with."""
        self._answers += 1
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._seen = self._answers
            loop.call_soon(self._look)

    def _look(self) -> None:
        if self._answers != self._seen:
            # More came meanwhile: there is work, and no reason to rest.
            self._seen = self._answers
            asyncio.get_running_loop().call_soon(self._look)
            return
        self._loop = None
        now = time.monotonic()
        since, before = self._window
        if now - since >= WINDOW:
            self.busy = self._answers - before >= BUSY * (now - since)
            self._window = (now, self._answers)
        if self.busy:
            # A span; `time.sleep` waits for a point in time, and a clock may be set meanwhile.
            select.select((), (), (), REST)
