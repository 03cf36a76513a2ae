"""A message that was found, with its attempts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.message import PRIORITIES, Message
from relay.operations.without_secrets import payload_without_secrets
from relay.text import Redactor


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
    """1 for the next message of its lane or queue. None: unknown, or too far back to count."""
    due_at: float | None = None
    """The time of its next attempt, if it is known."""
    worker: str = ""
    outcome: str = ""
    """Its outcome, as in receipts."""
    ended_at: float | None = None
    why_not_now: str = ""
    attempts: Sequence[FoundAttempt] = field(default=())
    message: Message | None = None
    """The message itself, if Redis still has it."""


ONLY_SIGNING_SECRETS = Redactor()

MESSAGE_FIELDS = ("created_at", "expires_at", "deliver_at")
"""Times of a message, 0 if there is none."""

MESSAGE_TEXTS = ("ordering_key", "collapse_key", "reply_to", "traceparent")


def message_document(message: Message, redactor: Redactor) -> dict[str, Any]:
    """Return a message without secrets."""
    return {
        "priority": PRIORITIES[message.priority],
        **{name: getattr(message, name) or None for name in (*MESSAGE_FIELDS, *MESSAGE_TEXTS)},
        "targets": message.targets or None,
        "payload": payload_without_secrets(message.payload, redactor),
    }


def documents(found: Iterable[Found], redactor: Redactor = ONLY_SIGNING_SECRETS) -> list[dict[str, Any]]:
    """Return the document of `relay find --json`. `redactor` hides the secrets of the configuration."""
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
            "message": None if one.message is None else message_document(one.message, redactor),
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
