"""The progress of an intake, and the observations of the watchdog about its queue."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """An error reply of Redis about a queue, and its first time in monotonic seconds."""

    since: float
    text: str


class Progress:
    """Only the intake writes to it, except `note_scan`."""

    def __init__(self) -> None:
        self.answered_at = time.monotonic()
        """The time of Redis's last reply, also of an error, in monotonic seconds."""
        self.refused: Refused | None = None
        """Set from the first error reply until elements move or a wait for them ends."""
        self.fetched = 0
        """The number of elements fetched from the queue."""
        self.too_large = 0
        """The number of those that became dead letters inside Redis because of their size."""
        self.waiting = False
        """Whether the intake waits for the next element."""
        self.longer_wait = 0.0
        """The seconds by which the current wait may exceed the usual one."""

        self._scanned_at = -math.inf
        self._found_elements = False

    def note_scan(self, *, found: bool) -> None:
        """The watchdog, which looks at all queues together, has found elements that wait, or none."""
        self._scanned_at = time.monotonic()
        self._found_elements = found

    def recent_scan(self, seconds: float) -> bool | None:
        """Return whether elements waited when the watchdog last looked; None if that was longer ago."""
        return self._found_elements if time.monotonic() - self._scanned_at < seconds else None

    def note_answer(self) -> None:
        """Redis has replied."""
        self.answered_at = time.monotonic()

    def note_refusal(self, error: Exception) -> None:
        """Redis has replied with an error."""
        self.note_answer()
        self.refused = Refused(self.refused.since if self.refused else self.answered_at, str(error))

    def is_silent_for(self, seconds: float) -> bool:
        """Return whether Redis has not replied for longer than this."""
        return time.monotonic() - self.answered_at > seconds
