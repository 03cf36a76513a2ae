"""Attempts of recovery, for one queue or lane each: one that fails stops none of the others."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from relay.engine.parts import Parts
from relay.engine.repeats import thinned
from relay.errors import StoreError
from relay.redis_client.client import is_refusal

RECENT = 30.0
"""Report a failure as trouble for this many seconds."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of one queue or lane, and its last time in monotonic seconds."""

    text: str
    at: float


class Containment:
    """Contains the failures of single queues and lanes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._failures: dict[str, _Failure] = {}

    async def attempt(self, part: str, step: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """Return the result of a step for one queue or lane, or None if it fails.

        Raises StoreError if Redis itself fails.
        """
        try:
            return await self._parts.attempt(f"recovery of {part}", step)
        except StoreError as error:
            if not is_refusal(error):
                raise
            self.note(part, error)
            thinned.log("warning", "cannot recover", part, str(error), part=part)
            return None

    def note(self, part: str, error: StoreError) -> None:
        """Report an error as trouble."""
        now = time.monotonic()
        recent = {name: one for name, one in self._failures.items() if now - one.at < 2 * RECENT}
        self._failures = {**recent, part: _Failure(str(error), at=now)}

    def troubles(self) -> list[str]:
        """Return one line for each error within the last `RECENT` seconds."""
        since = time.monotonic() - RECENT
        return [f"recovery: {part}: {one.text}" for part, one in self._failures.items() if one.at > since]
