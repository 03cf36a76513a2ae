"""A message that was found, with its attempts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """The place or the end of a message."""

    QUEUED = "queued"
    WAITING = "waiting"
    DELAYED = "delayed"
    BLOCKED = "blocked"
    IN_FLIGHT = "in_flight"
    DEAD = "dead"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class FoundAttempt:
    """One attempt. `at` is in Unix seconds, `status` 0 if there was no answer."""

    at: float
    outcome: str
    status: int
    reason: str
    request_seconds: float
    worker: str
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One message. Times are in Unix seconds."""

    provider: str
    """Empty for an element of a queue that no worker has read."""
    id: str
    state: State
    group: str = ""
    queue: str = ""
    position: int | None = None
    """1 for the next message of its lane or queue; None: unknown, or beyond what is counted."""
    due_at: float | None = None
    """When it will go, as far as can be told."""
    worker: str = ""
    outcome: str = ""
    """How it ended, as in receipts."""
    ended_at: float | None = None
    why_not_now: str = ""
    attempts: Sequence[FoundAttempt] = field(default=())


def documents(found: Iterable[Found]) -> list[dict[str, Any]]:
    """Return the document of `relay find --json`."""
    return [
        {
            "provider": one.provider or None,
            "id": one.id,
            "group": one.group or None,
            "queue": one.queue or None,
            "state": one.state.value,
            "position": one.position,
            "due_at": one.due_at,
            "worker": one.worker or None,
            "outcome": one.outcome or None,
            "ended_at": one.ended_at,
            "why_not_now": one.why_not_now or None,
            "attempts": [
                {
                    "at": attempt.at,
                    "outcome": attempt.outcome,
                    "status": attempt.status or None,
                    "reason": attempt.reason,
                    "request_seconds": round(attempt.request_seconds, 6),
                    "worker": attempt.worker or None,
                    "provider_id": attempt.provider_id or None,
                }
                for attempt in one.attempts
            ],
        }
        for one in found
    ]
