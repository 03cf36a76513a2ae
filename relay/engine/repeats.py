"""Thins out repeated log lines: logs the first immediately, the others of a window as one line with a count.

There is one instance of each kind for the whole process, because there is one log.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from relay.errors import StoreError
from relay.redis_client.client import is_refusal
from relay.text import alike

MOST = 20
"""The most different lines of one kind (event and provider) in a window. Further ones are counted
together."""

OTHERS = "other reasons"

FLUSH_INTERVAL = 1.0

logger = structlog.get_logger()


@dataclass(slots=True)
class _Line:
    """One line of a window. `count` is the number of repetitions since it was logged."""

    level: str
    event: str
    fields: dict[str, Any]
    until: float
    count: int = 0


class Repeats:
    """Recent log lines by kind. Call `flush` periodically."""

    def __init__(self, window: float, clock: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        """`window` is in seconds, `clock` returns monotonic seconds."""
        self._window = window
        self._clock = clock
        self._most = most
        self._lines: dict[tuple[str, str, str], _Line] = {}
        self._kinds: dict[tuple[str, str], int] = {}

    def log(self, level: str, event: str, of: str, reason: str, number: int = 1, /, **fields: Any) -> None:
        """Log an event that happened `number` times, or count it if the window already has a line like it.

        Lines are alike if they have the same event, the same `of` (a provider, a queue) and reasons that are
        equal in `alike`. An `exc_info` is logged once.
        """
        kind = (event, of)
        key = (*kind, alike(reason))
        if key not in self._lines and self._kinds.get(kind, 0) >= self._most:
            key, reason = (*kind, OTHERS), OTHERS
        line = self._lines.get(key)
        if line is not None:
            line.count += number
            return
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        if reason:
            fields = {"reason": reason, **fields}
        getattr(logger, level)(event, count=number, **fields)
        fields.pop("exc_info", None)
        self._lines[key] = _Line(level, event, fields, self._clock() + self._window)

    def flush(self) -> None:
        """Log the counts of all windows that have ended."""
        self._flush_until(self._clock())

    def flush_all(self) -> None:
        """Log the counts of all windows."""
        self._flush_until(math.inf)

    def _flush_until(self, end: float) -> None:
        now = self._clock()
        for key, line in [*self._lines.items()]:
            if line.until > end:
                continue
            if line.count:
                getattr(logger, line.level)(line.event, count=line.count, **line.fields)
                line.count, line.until = 0, now + self._window
            else:
                del self._lines[key]
                kind = key[:2]
                self._kinds[kind] -= 1
                if not self._kinds[kind]:
                    del self._kinds[kind]


class RedisTrouble:
    """Failures of Redis in all loops: one line for each event and 30 s, and one when Redis replies again."""

    def __init__(self, repeats: Repeats, clock: Callable[[], float] = time.monotonic) -> None:
        self._repeats = repeats
        self._clock = clock
        self._first = 0.0
        self._last = 0.0

    def log(self, event: str, error: BaseException | str | None, *, of: str = "", **fields: Any) -> None:
        """Log that a step of a loop failed. `of` is the lane or queue, if it concerns one."""
        now = self._clock()
        # An outage has many error texts, and concerns all lanes. An error reply may concern a single key.
        refused = isinstance(error, StoreError) and is_refusal(error)
        if not refused:
            self._first = self._first or now
            self._last = now
        about = {"about": of} if of else {}
        self._repeats.log(
            "warning",
            event,
            of if refused else "",
            str(error) if refused else "",
            error=str(error),
            **about,
            **fields,
        )

    def answered(self, since: float) -> None:
        """Redis accepted a heartbeat that was sent at `since` (in monotonic seconds)."""
        if self._first and self._last < since:
            logger.info("Redis answers again", after=f"{self._clock() - self._first:.0f}s")
            self._first = 0.0


thinned = Repeats(10.0)
"""Lines about undelivered messages, failing adapters and lanes that hold."""

_redis = Repeats(30.0)
redis_trouble = RedisTrouble(_redis)


def flush_all() -> None:
    """Log all counts of this process."""
    thinned.flush_all()
    _redis.flush_all()


async def flush_forever() -> None:
    """Flush periodically until cancelled."""
    while True:
        await asyncio.sleep(FLUSH_INTERVAL)
        thinned.flush()
        _redis.flush()
