"""Keeps answers of Redis for a short time, so that ten open consoles cost as much as one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

ValueT = TypeVar("ValueT")

MOST = 200
"""Answers that are kept."""


class Cache:
    """Answers by key, with the time until which they are good."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def get(self, key: Hashable, seconds: float, read: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """Return the answer to `read`, or one that is at most so many seconds old."""
        async with self._lock:
            until, value = self._kept.get(key, (0.0, None))
            if until > self._clock():
                found: ValueT = value
                return found
            found = await read()
            self._kept[key] = (self._clock() + seconds, found)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
            return found

    def clear(self) -> None:
        """Forget everything, because an action has changed something."""
        self._kept.clear()
