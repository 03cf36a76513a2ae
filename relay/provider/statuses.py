"""The meaning of HTTP statuses: one table for all adapters, which contain only their exceptions.

It retries the statuses that senders of Standard Webhooks retry too, because their causes pass.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from relay.http.request import Response
from relay.outcome import (
    Delivered,
    Outcome,
    Rejected,
    Retry,
    Throttled,
    ThrottleScope,
    Unauthorised,
    Unregistered,
)
from relay.provider.retry_after import retry_after

CREDENTIALS = frozenset({401, 403})
"""Refusals that are our fault if the credentials come from the configuration."""

ADDRESS = frozenset({404, 405, 410})
"""Refusals that are our fault if the address is fixed by the configuration."""

PROXY = frozenset({407})
"""Refusals that are our fault if the request passes a proxy of the configuration."""

OURS = CREDENTIALS | ADDRESS | PROXY
"""Refusals that may be our fault if credentials and address come from the configuration."""

_RETRIED = frozenset({408, 409, 423, 425})
_LONGEST_LOCATION = 200


class Meaning(StrEnum):
    """The meaning of a status, with the names of the option `statuses`."""

    SUCCESS = "success"
    RETRY = "retry"
    THROTTLED = "throttled"
    REJECT = "reject"
    UNAUTHORISED = "unauthorised"
    UNREGISTERED = "unregistered"


def meaning(response: Response, ours: Collection[int] = ()) -> Meaning:
    """Return the usual meaning of the response. `ours` holds the refusals that may be our fault."""
    status = response.status
    if 200 <= status < 300:
        return Meaning.SUCCESS
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        return Meaning.THROTTLED
    if status >= 500 or status < 200 or status in _RETRIED:
        return Meaning.RETRY
    return Meaning.UNAUTHORISED if status in ours else Meaning.REJECT


def outcome_of(
    found: Meaning,
    response: Response,
    reason: str,
    after: float | None,
    target: str = "",
    *,
    scope: ThrottleScope = "provider",
) -> Outcome:
    """Return the outcome for a response with this meaning.

    `after` is the wait that the provider requests (seconds), `scope` the messages that it applies to.
    `target` is the receiver of the message.
    """
    status, body = response.status, response.body
    match found:
        case Meaning.SUCCESS:
            return Delivered()
        case Meaning.RETRY:
            return Retry(reason, status, body, after)
        case Meaning.THROTTLED:
            return Throttled(reason, after, status, body, scope)
        case Meaning.UNAUTHORISED:
            return Unauthorised(reason + redirect_note(response), status, body, target)
        case Meaning.UNREGISTERED:
            return Unregistered(target, reason, status)
        case Meaning.REJECT:
            return Rejected(reason + redirect_note(response), status, body)


def outcome(
    response: Response, reason: str, now: float, *, ours: Collection[int] = (), target: str = ""
) -> Outcome:
    """Return the outcome by the table alone. `now` (Unix seconds) is for a Retry-After with a date."""
    after = retry_after(response.headers, now)
    return outcome_of(meaning(response, ours), response, reason, after, target)


def redirect_note(response: Response) -> str:
    """Return a text that explains why a redirect is a failure; empty for any other status."""
    if not 300 <= response.status < 400:
        return ""
    location = response.headers.get("location", "")[:_LONGEST_LOCATION]
    return f" (redirects are not followed{f'; it points to {location!r}' if location else ''})"
