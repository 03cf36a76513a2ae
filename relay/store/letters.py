"""The letters of an outbox: how a lane's scripts write them, and how applications read them. Pure."""

from __future__ import annotations

import msgspec


class ReceiptLetter(msgspec.Struct, frozen=True, array_like=True, tag="receipt"):
    """A message ended, and the application wants to read how. `at` is in Unix milliseconds."""

    reply_to: str
    id: str
    outcome: str
    reason: str
    attempts: int
    at: int
    detail: dict[str, int] | str | None = None
    """Of a fan-out: how many targets ended in which way. Of an element that named a provider without a lane:
    that provider."""


class FeedbackLetter(msgspec.Struct, frozen=True, array_like=True, tag="feedback"):
    """A target is gone. `since` is the provider's word for when that happened; 0 if it gave none."""

    target: str
    reason: str
    since: int | float | str
    id: str


Letter = ReceiptLetter | FeedbackLetter

_decode = msgspec.msgpack.Decoder(Letter).decode


def read(packed: bytes) -> Letter | None:
    """The letter in an entry of an outbox. None: it is none, or of a kind that this version does not know."""
    try:
        letter: Letter = _decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return letter


def receipt(provider: str, letter: ReceiptLetter) -> dict[str, object]:
    """The receipt that an application reads. `at` is in Unix seconds."""
    told: dict[str, object] = {
        "id": letter.id,
        "provider": letter.detail if isinstance(letter.detail, str) else provider,
        "outcome": letter.outcome,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "at": letter.at / 1000,
    }
    if isinstance(letter.detail, dict):
        ended = dict(sorted(letter.detail.items(), key=lambda item: -item[1]))
        told["reason"] = ", ".join(f"{number} {name}" for name, number in ended.items())
        told["targets"] = ended
    return told


def feedback(provider: str, letter: FeedbackLetter) -> dict[str, str]:
    """The fields of an entry of the feedback stream."""
    return {
        "provider": provider,
        "target": letter.target,
        "reason": letter.reason,
        "id": letter.id,
        "since": str(letter.since),
    }
