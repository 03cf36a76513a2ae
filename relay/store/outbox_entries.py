"""The entries of an outbox: as a lane's scripts write them, and as applications read them. Pure."""

from __future__ import annotations

import msgspec


class ReceiptEntry(msgspec.Struct, frozen=True, array_like=True, tag="receipt"):
    """A message has ended, and has a `reply_to`. `at` is in Unix milliseconds."""

    reply_to: str
    id: str
    outcome: str
    reason: str
    attempts: int
    at: int
    detail: dict[str, int] | str | None = None
    """For a fan-out: the number of targets by outcome. For an element whose provider has no lane: that
    provider."""
    status: int = 0
    """The HTTP status of the last answer; 0: unknown."""
    provider_id: str = ""
    """The provider's own name for the message; empty: it gave none."""


class FeedbackEntry(msgspec.Struct, frozen=True, array_like=True, tag="feedback"):
    """A target is gone. `since` is the time that the provider gave for that, or 0."""

    target: str
    reason: str
    since: int | float | str
    id: str
    group: str = ""
    """A group that was disabled; it is the target, too."""


OutboxEntry = ReceiptEntry | FeedbackEntry

_decode = msgspec.msgpack.Decoder(OutboxEntry).decode


def decode(packed: bytes) -> OutboxEntry | None:
    """Decode an entry. Returns None if it is malformed, or of a kind that this version does not know."""
    try:
        entry: OutboxEntry = _decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return entry


def receipt(provider: str, entry: ReceiptEntry) -> dict[str, object]:
    """Return the receipt that an application reads. `at` is in Unix seconds."""
    fields: dict[str, object] = {
        "id": entry.id,
        "provider": entry.detail if entry.detail and isinstance(entry.detail, str) else provider,
        "outcome": entry.outcome,
        "reason": entry.reason,
        "attempts": entry.attempts,
        "at": entry.at / 1000,
    }
    if entry.status:
        fields["status"] = entry.status
    if entry.provider_id:
        fields["provider_id"] = entry.provider_id
    if isinstance(entry.detail, dict):
        ended = dict(sorted(entry.detail.items(), key=lambda item: -item[1]))
        fields["reason"] = ", ".join(f"{number} {name}" for name, number in ended.items())
        fields["targets"] = ended
    return fields


def feedback(provider: str, entry: FeedbackEntry) -> dict[str, str]:
    """Return the fields of an entry of the feedback stream."""
    fields = {
        "provider": provider,
        "target": entry.target,
        "reason": entry.reason,
        "id": entry.id,
        "since": str(entry.since),
    }
    if entry.group:
        fields["group"] = entry.group
    return fields
