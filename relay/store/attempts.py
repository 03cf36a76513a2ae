"""The failed attempts of a message: kept with it while it waits, and then in its dead letter.

They follow the counters of a message that waits again (`Claim.tries`), so they cost no command of their own,
and nothing for a message that is delivered immediately. The form is a JSON array of arrays, the oldest first:
[at (Unix milliseconds), status, reason, worker]. An attempt like the one before has only its time; one by the
same worker leaves out the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

MOST = 20
"""Attempts that a message keeps, the newest."""

LONGEST_REASON = 200
"""Bytes of a reason."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[list[Any]]).decode


class Attempt(msgspec.Struct, frozen=True):
    """One attempt that failed. `at` is in Unix seconds; `status` is 0 if there was no answer."""

    at: float
    status: int = 0
    reason: str = ""
    worker: str = ""


def encode(attempts: Sequence[Attempt]) -> str:
    """Return the stored form of the newest attempts."""
    rows: list[list[Any]] = []
    before: Attempt | None = None
    for attempt in attempts[-MOST:]:
        row: list[Any] = [round(attempt.at * 1000), attempt.status, attempt.reason, attempt.worker]
        if before is not None and before.worker == attempt.worker:
            row.pop()
            if (before.status, before.reason) == (attempt.status, attempt.reason):
                del row[1:]
        rows.append(row)
        before = attempt
    return _encode(rows).decode() if rows else ""


def decode(text: str | bytes) -> list[Attempt]:
    """Return the attempts of a stored form; none if it is empty or not readable."""
    found: list[Attempt] = []
    status, reason, worker = 0, "", ""
    try:
        for at, *rest in _decode(text) if text else ():
            if rest:
                status, reason = int(rest[0]), str(rest[1])
                worker = str(rest[2]) if len(rest) > 2 else worker
            found.append(Attempt(float(at) / 1000, status, reason, worker))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, IndexError):
        return []
    return found


def appended(history: str, attempt: Attempt) -> str:
    """Return the stored form with one more attempt."""
    reason = attempt.reason.encode()[:LONGEST_REASON].decode("utf-8", "ignore")
    return encode([*decode(history), msgspec.structs.replace(attempt, reason=reason)])


def of_tries(tries: str | bytes) -> list[Attempt]:
    """Return the attempts of a message that waits, from its field in the part `tries` of the lane."""
    data = tries.encode() if isinstance(tries, str) else tries
    return decode(data.partition(b" ")[2])
