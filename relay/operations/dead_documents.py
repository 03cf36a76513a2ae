"""The JSON documents about dead letters: `--json` of the command line and the API return the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict, cast

import msgspec

from relay.message import PRIORITIES
from relay.operations.dead_reasons import ReasonGroup
from relay.operations.dead_selection import LetterName
from relay.operations.dead_work import DeadResult
from relay.settings.credentials import text_without_credentials, without_credentials
from relay.store.attempts import Attempt
from relay.store.dead import DeadLetter


class LetterDocument(TypedDict):
    """A dead letter, without credentials."""

    id: str | None
    provider: str | None
    group: str | None
    entry: str
    cursor: str
    at: float
    reason: str
    queue: str
    attempts: int
    status: int | None
    body: str
    history: list[Attempt]
    raw: NotRequired[str]
    raw_bytes: NotRequired[int]
    priority: NotRequired[str]
    payload: NotRequired[dict[str, Any]]
    created_at: NotRequired[float]
    expires_at: NotRequired[float]
    deliver_at: NotRequired[float]
    collapse_key: NotRequired[str]
    ordering_key: NotRequired[str]
    reply_to: NotRequired[str]
    traceparent: NotRequired[str]


class ReasonDocument(TypedDict):
    """The dead letters with one reason and status."""

    reason: str
    status: int | None
    count: int
    first_at: float
    last_at: float
    example_id: str | None
    providers: dict[str, int]


class ResultDocument(TypedDict):
    """The effect of a retry or a purge. `left` counts letters by the reason for which they stay."""

    matched: int
    done: int
    left: dict[str, int]


MESSAGE_FIELDS = (
    "created_at",
    "expires_at",
    "deliver_at",
    "collapse_key",
    "ordering_key",
    "reply_to",
    "traceparent",
)
"""Fields of a message that are shown if they are set."""

WHY_LEFT = {
    "still_malformed": "still malformed",
    "malformed": "malformed",
    "duplicate": "the same id is pending",
    "gone": "deleted meanwhile",
}
"""The reasons for which a letter stays, by their names in `DeadResult.left`."""


def letter_document(letter: DeadLetter) -> LetterDocument:
    """Return one dead letter, without credentials."""
    message = letter.message
    document: LetterDocument = {
        "id": message.id if message else None,
        "provider": letter.provider or None,
        "group": message.group or None if message else None,
        "entry": letter.entry,
        "cursor": LetterName.of(letter).cursor,
        "at": letter.at,
        "reason": letter.reason,
        "queue": letter.queue,
        "attempts": letter.attempts,
        "status": letter.status or None,
        "body": letter.body.decode("utf-8", "replace"),
        "history": [msgspec.to_builtins(attempt) for attempt in letter.history],
    }
    if message is None:
        document["raw"] = text_without_credentials(letter.raw.decode("utf-8", "backslashreplace"))
        if len(letter.raw) < letter.raw_size:
            document["raw_bytes"] = letter.raw_size
        return document
    document["priority"] = PRIORITIES[message.priority]
    document["payload"] = without_credentials(message.payload)
    fields = {name: value for name in MESSAGE_FIELDS if (value := getattr(message, name))}
    return cast(LetterDocument, {**document, **fields})


def reason_documents(groups: Sequence[ReasonGroup]) -> list[ReasonDocument]:
    """Return the groups of `by_reason`."""
    return [
        {
            "reason": group.reason,
            "status": group.status or None,
            "count": group.count,
            "first_at": group.first_at,
            "last_at": group.last_at,
            "example_id": group.example.id if group.example else None,
            "providers": {name: number for name, number in group.providers.items() if name},
        }
        for group in groups
    ]


def result_document(result: DeadResult) -> ResultDocument:
    """Return the effect of a retry or a purge."""
    return {
        "matched": result.matched,
        "done": result.done,
        "left": {why: number for why, number in result.left.items() if number},
    }
