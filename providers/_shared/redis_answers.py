"""The outcome of a message by the answer of Redis. Pure.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ and the server's own sources
(server.c, acl.c, cluster.c of 6.2 and 7.0), which have the codes and words below.
"""

from __future__ import annotations

from typing import assert_never

from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.provider.redis import Answer, Refused, Replied, Unanswered
from relay.text import excerpt

FULL = frozenset({"OOM", "MISCONF", "NOREPLICAS"})
"""Codes of a Redis that accepts no writes now. No message is to blame, so none spends an attempt."""

WRONG = frozenset({"WRONGTYPE", "CROSSSLOT"})
"""Codes for a key that is not a stream. The message named it."""

CREDENTIALS = frozenset({"NOAUTH", "WRONGPASS", "DENIED"})


def outcome(answer: Answer) -> Outcome:
    """The outcome of a message. Codes in none of the sets (LOADING, READONLY, BUSY, ERR, …) are retried."""
    match answer:
        case Replied(replies):
            return Delivered(_entry_id(replies))
        case Unanswered(reason):
            return Retry(excerpt(reason))
        case Refused():
            return _refusal(answer)
    assert_never(answer)


def _refusal(refused: Refused) -> Outcome:
    reason, body = excerpt(refused.text), refused.text.encode()
    if refused.code in WRONG:
        return Rejected(reason, body=body)
    if refused.code in CREDENTIALS:
        return Unauthorised(reason, body=body)
    if refused.code == "NOPERM":
        # A user that may not run PUBLISH or XADD is our mistake. A channel or key that it may not touch was
        # named by one message, and must not hold the others.
        return Unauthorised(reason, body=body) if "command" in reason else Rejected(reason, body=body)
    if refused.code in FULL:
        return Throttled(reason, body=body)
    return Retry(reason, body=body)


def _entry_id(replies: object) -> str:
    """The id of the stream's new entry, which is the first reply; PUBLISH answers a number."""
    first = replies[0] if isinstance(replies, list | tuple) and replies else None
    return first.decode() if isinstance(first, bytes) else ""
