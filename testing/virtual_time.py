"""An event loop whose clock advances only when nothing else is left to do.

Timers fire in order, as soon as the code before them has finished, however slow the machine is. Waiting for
another process, such as Redis, takes no time.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from selectors import SelectorKey

_real_time = time.monotonic


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Follows the real clock until `control` takes over."""

    def __init__(self) -> None:
        self._selector_with_clock = _Selector()
        super().__init__(self._selector_with_clock)

    def time(self) -> float:
        return self._selector_with_clock.now()

    def control(self, is_waiting: Callable[[], bool]) -> None:
        """From now on, skip to the next timer when no socket is ready.

        While `is_waiting()` is true, another process will answer, and the clock stands still.
        """
        self._selector_with_clock.control(is_waiting)

    def follow(self) -> None:
        """From now on, follow the real clock again."""
        self._selector_with_clock.follow()


class _Selector(selectors.DefaultSelector):
    """Waits for sockets in real time, and for timers in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self._is_waiting: Callable[[], bool] | None = None
        self._frozen_at = 0.0
        self._behind = 0.0

    def now(self) -> float:
        return self._frozen_at if self._is_waiting else _real_time() - self._behind

    def control(self, is_waiting: Callable[[], bool]) -> None:
        self._frozen_at = self.now()
        self._is_waiting = is_waiting

    def follow(self) -> None:
        self._behind = _real_time() - self.now()
        self._is_waiting = None

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if self._is_waiting is None or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        if timeout is None or self._is_waiting():
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self._frozen_at += timeout
        return ready
