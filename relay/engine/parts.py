"""Keeps each loop of a worker running: if one fails, it is logged, counted and restarted without the others.

A part is one loop, or one loop of one lane or queue. Errors of Redis are no failures: the loops handle them
themselves. Exceptions that arrive here are bugs of relay or of an adapter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from relay.errors import StoreError
from relay.text import one_line

ResultT = TypeVar("ResultT")

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tuning:
    """All in seconds."""

    first: float = 0.5
    """The wait before the first restart; each further one doubles it."""
    longest: float = 30.0
    healthy: float = 60.0
    """A part that has run for this long has recovered: its next failure counts as the first one again."""


class Parts:
    """The parts of one process, and which of them keep failing."""

    def __init__(self, tuning: Tuning = Tuning(), clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self._tuning = tuning
        self._clock = clock
        self._failures: Counter[str] = Counter()
        self._failing: dict[str, tuple[str, float]] = {}
        """By name: the last error, and when the part may count as recovered."""
        self._skipped: dict[str, tuple[int, float]] = {}
        """By name of a step: how often it has failed in a row, and when it may be tried again."""

    @property
    def failures(self) -> Mapping[str, int]:
        """How often each part has failed."""
        return self._failures

    def troubles(self) -> list[str]:
        """One line for each part that fails now, or failed a moment ago."""
        now = self._clock()
        return [f"{name}: {error}" for name, (error, until) in self._failing.items() if now < until]

    async def keep(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        """Run it until it returns or this task is cancelled; after an exception, wait and run it again."""
        failures = 0
        while True:
            started = self._clock()
            try:
                await run()
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise
                # Not a request to cancel: it leaked from a library, and would end the loop silently.
                failure: BaseException = error
            except (Exception, SystemExit) as error:
                failure = error
            else:
                return
            if _is_cancelled():
                logger.error("a part of this worker failed while it stopped", part=name, exc_info=failure)
                raise asyncio.CancelledError
            failures = 1 if self._clock() - started >= self._tuning.healthy else failures + 1
            wait = self._wait(failures)
            self.failed(name, failure, wait)
            await asyncio.sleep(wait)

    async def attempt(self, name: str, step: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """The result of one step of a loop that serves many; None if it failed, or did so a moment ago.

        Raises StoreError: trouble with Redis is for the loop to deal with.
        """
        failures, until = self._skipped.get(name, (0, 0.0))
        if failures and self._clock() < until:
            return None
        try:
            result = await step()
        except StoreError:
            raise
        except (Exception, SystemExit) as error:
            wait = self._wait(failures + 1)
            self.failed(name, error, wait)
            self._skipped[name] = (failures + 1, self._clock() + wait)
            return None
        if failures:
            del self._skipped[name]
        return result

    def _wait(self, failures: int) -> float:
        wait = min(self._tuning.longest, self._tuning.first * 2.0 ** min(failures - 1, 30))
        return wait * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def failed(self, name: str, failure: BaseException, wait: float) -> None:
        """Note a failure of a part that starts again after `wait` seconds."""
        self._failures[name] += 1
        error = one_line(repr(failure), 300)
        self._failing[name] = (error, self._clock() + wait + self._tuning.first)
        logger.error(
            "a part of this worker failed; restarting it",
            part=name,
            restart_in=f"{wait:.1f}s",
            exc_info=failure,
        )


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
