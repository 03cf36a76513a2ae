"""Thins out log lines that repeat themselves: the first at once, the others of a window as one with a count.

The digests are as wide as the log: one for each process.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from relay.errors import StoreError
from relay.redis_client.client import is_refusal

MOST = 20
"""Different lines of one kind (a provider's reasons) within a window; further ones are counted together."""

_VARIES = re.compile(r"""https?://\S+ | "[^"]*" | '[^']*' | \b\w*\d[\w.:-]* | \b[\w-]{24,}""", re.VERBOSE)
_COMPARED = 200
"""Characters of a reason that are compared."""

OTHERS = "other reasons"

FLUSH_INTERVAL = 1.0

logger = structlog.get_logger()


def alike(reason: str) -> str:
    """A key that is equal for reasons that differ only in numbers, ids, URLs and quoted words.

    A status at the start of the reason is kept.
    """
    status = reason[:3] if reason[:3].isdecimal() and not reason[3:4].isalnum() else ""
    return status + _VARIES.sub("#", reason[len(status) : _COMPARED])


@dataclass(slots=True)
class _Line:
    """One line of a window, and how often it happened since it was logged last."""

    level: str
    event: str
    fields: dict[str, Any]
    until: float
    count: int = 0


class Repeats:
    """Log lines by kind; `flush` has to be called again and again."""

    def __init__(self, window: float, clock: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        """`window` is in seconds; `clock` gives monotonic ones."""
        self._window = window
        self._clock = clock
        self._most = most
        self._lines: dict[tuple[str, str, str], _Line] = {}
        self._kinds: dict[tuple[str, str], int] = {}

    def log(self, level: str, event: str, of: str, reason: str, number: int = 1, /, **fields: Any) -> None:
        """Log it, or count it if a line like it was logged within the window. It happened `number` times.

        Lines are alike if they share the event, `of` (a provider, a queue) and the reason as in `alike`.
        An `exc_info` is shown once.
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

    def flush(self, *, every: bool = False) -> None:
        """Log what was counted in windows that are over; with `every`, in all."""
        now = self._clock()
        for key, line in [*self._lines.items()]:
            if now < line.until and not every:
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
    """Repeats about Redis, from all loops: one line for each message and 30 s, and one when it is over."""

    def __init__(self, repeats: Repeats, clock: Callable[[], float] = time.monotonic) -> None:
        self._repeats = repeats
        self._clock = clock
        self._first = 0.0
        self._last = 0.0

    def log(self, event: str, error: BaseException | str | None, *, of: str = "", **fields: Any) -> None:
        """A loop could not do its work. `of`: the lane or queue that it is about."""
        now = self._clock()
        # An outage has many words and concerns all. A refusal may be about one key.
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
        """Redis took a heartbeat that was sent at `since` (monotonic seconds)."""
        if self._first and self._last < since:
            logger.info("Redis answers again", after=f"{self._clock() - self._first:.0f}s")
            self._first = 0.0


thinned = Repeats(10.0)
"""Messages that will not be delivered, adapters that fail, lanes that hold."""

_redis = Repeats(30.0)
redis_trouble = RedisTrouble(_redis)


def flush(*, every: bool = False) -> None:
    """As `Repeats.flush`, of all that this process has."""
    thinned.flush(every=every)
    _redis.flush(every=every)


async def flush_forever() -> None:
    """The loop of one process."""
    while True:
        await asyncio.sleep(FLUSH_INTERVAL)
        flush()
