"""Keeps each loop of a worker running: one that fails is logged, counted and restarted; the others continue.

A part is a loop, or a loop of one lane or queue. Loops handle errors of Redis themselves. Exceptions that
reach this module are bugs of relay or of an adapter.
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
    """Durations are in seconds."""

    first: float = 0.5
    """Wait before the first restart. It doubles with each further one."""
    longest: float = 30.0
    """The longest wait before a restart."""
    healthy: float = 60.0
    """After running for this long, the next failure of a part counts as its first one."""


class Parts:
    """The parts of one process, and their failures."""

    def __init__(self, tuning: Tuning = Tuning(), clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._tuning = tuning
        self._clock = clock
        self._failures: Counter[str] = Counter()
        self._failing: dict[str, tuple[str, float]] = {}
        """By part: its last error, and the time until which it counts as failing."""
        self._skipped: dict[str, tuple[int, float]] = {}
        """By step: its number of failures in a row, and the time of the next attempt."""

    @property
    def failures(self) -> Mapping[str, int]:
        """The number of failures of each part."""
        return self._failures

    def troubles(self) -> list[str]:
        """Return one line for each part that is failing."""
        now = self._clock()
        return [f"{name}: {error}" for name, (error, until) in self._failing.items() if now < until]

    async def keep(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        """Run a part until it returns or this task is cancelled. After an exception, wait and restart it."""
        failures = 0
        while True:
            started = self._clock()
            try:
                await run()
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise
                # Not a request to cancel: it comes from a library, and would end the loop silently.
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
        """Return the result of a step. None: it failed now, or recently and is not tried again yet.

        Raises StoreError, because loops handle errors of Redis themselves.
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
        """Log and count a failure of a part that is restarted after `wait` seconds."""
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
