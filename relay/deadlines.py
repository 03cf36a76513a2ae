"""Ends what takes far too long, with one timer for all that is under way."""

from __future__ import annotations

import asyncio


class Deadlines:
    """Time-outs of tasks that each may take equally long.

    What began first is due first, so one timer does for all of them, where `asyncio.timeout` sets and cancels
    one for each: it would be a tenth of what a message costs.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}
        self._passed: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> asyncio.Task[object]:
        """The current task has begun, until `end`. Past its deadline it is cancelled, once."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        end = self._ends[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)
        return task

    def end(self, task: asyncio.Task[object]) -> bool:
        """Whether its deadline had passed and nobody else cancelled it: its CancelledError is taken back."""
        self._ends.pop(task, None)
        if not self._passed or task not in self._passed:
            return False
        self._passed.discard(task)
        return task.uncancel() == 0

    def _look(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        self._timer = None
        for task, end in [*self._ends.items()]:
            if end > now:
                self._timer = self._loop.call_at(end, self._look)
                return
            del self._ends[task]
            self._passed.add(task)
            task.cancel()
