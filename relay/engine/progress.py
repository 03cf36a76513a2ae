"""The state of an intake as the watchdog sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """The error by which Redis refuses a queue, and its first time in monotonic seconds."""

    since: float
    text: str


class Progress:
    """Only the intake writes to it."""

    def __init__(self) -> None:
        self.answered_at = time.monotonic()
        """When Redis last answered, also by a refusal, in monotonic seconds."""
        self.refused: Refused | None = None
        """Set from the first refusal by Redis until elements move or a wait for them ends again."""
        self.fetched = 0
        """Elements that came from the queue so far."""
        self.waiting = False
        """Whether the intake is blocked until the next element comes."""

    def note_answer(self) -> None:
        """Redis has answered."""
        self.answered_at = time.monotonic()

    def note_refusal(self, error: Exception) -> None:
        """Redis has answered by a refusal."""
        self.note_answer()
        self.refused = Refused(self.refused.since if self.refused else self.answered_at, str(error))

    def is_silent_for(self, seconds: float) -> bool:
        """Whether Redis has not answered for longer than this."""
        return time.monotonic() - self.answered_at > seconds
