"""A message that was found, with its attempts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

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


class MessageDocument(TypedDict):
    """The content of a message, without secrets."""

    priority: str
    created_at: float | None
    expires_at: float | None
    deliver_at: float | None
    ordering_key: str | None
    collapse_key: str | None
    reply_to: str | None
    traceparent: str | None
    targets: int | None
    payload: dict[str, Any]


class AttemptDocument(TypedDict):
    """One attempt."""

    at: float
    outcome: str
    status: int | None
    reason: str
    request_seconds: float
    worker: str | None
    provider_id: str | None


class FoundDocument(TypedDict):
    """A message in one place: an entry of `relay find --json`."""

    provider: str | None
    id: str
    group: str | None
    queue: str | None
    state: str
    position: int | None
    due_at: float | None
    worker: str | None
    outcome: str | None
    ended_at: float | None
    why_not_now: str | None
    message: MessageDocument | None
    attempts: list[AttemptDocument]


ONLY_SIGNING_SECRETS = Redactor()


def message_document(message: Message, redactor: Redactor) -> MessageDocument:
    """Return a message without secrets."""
    return {
        "priority": PRIORITIES[message.priority],
        "created_at": message.created_at or None,
        "expires_at": message.expires_at or None,
        "deliver_at": message.deliver_at or None,
        "ordering_key": message.ordering_key or None,
        "collapse_key": message.collapse_key or None,
        "reply_to": message.reply_to or None,
        "traceparent": message.traceparent or None,
        "targets": message.targets or None,
        "payload": payload_without_secrets(message.payload, redactor),
    }


def documents(found: Iterable[Found], redactor: Redactor = ONLY_SIGNING_SECRETS) -> list[FoundDocument]:
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
