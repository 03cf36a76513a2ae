"""Keeps answers of Redis for a short time, so that ten open consoles cost as much as one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

ValueT = TypeVar("ValueT")

MOST = 200
"""Answers that are kept."""

REST = 40
"""Seconds for which an answer is kept, for each second that it took. So Redis has time for other readers."""


class Cache:
    """Answers by key, with the time until which they are good."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cleared = 0
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: Hashable, seconds: float, read: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """Return the result of `read`, or an earlier one that is at most `seconds` old. Slow results are kept
        for longer."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            until, value = self._kept.get(key, (0.0, None))
            started, cleared = self._clock(), self._cleared
            if until > started:
                found: ValueT = value
                return found
            found = await read()
            spent = self._clock() - started
            if cleared != self._cleared:
                return found  # it may be from before the action
            self._kept[key] = (self._clock() + max(seconds, spent * REST), found)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
            return found

    def clear(self) -> None:
        """Forget everything, because an action has changed something."""
        self._kept.clear()
        self._cleared += 1
