"""The meaning of each outcome for the message and its lane, as one pure function.

Each entry is an array that `settle.lua` understands; its header names the shapes.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace
from tenacity import RetryCallState, Retrying, wait_random_exponential

from relay.outcome import (
    BODY_LIMIT,
    Delivered,
    Failure,
    Isolate,
    Outcome,
    Postponed,
    Rejected,
    Retry,
    Throttled,
    Unauthorised,
    Unregistered,
)
from relay.settings.options import ProviderOptions
from relay.settings.redaction import secrets_in
from relay.store.lane import Claim, Hold
from relay.text import Redactor, one_line

LONGEST_HOLD = 3600.0
"""Seconds for which a provider can hold its lane by one answer."""

Entry = tuple[object, ...]


class Settlement(msgspec.Struct, frozen=True):
    """One line for the settle script, and what the lane as a whole should do."""

    entry: Entry
    hold: Hold | None = None


class Settler:
    """Decides by one provider's options."""

    def __init__(self, options: ProviderOptions) -> None:
        self._attempts = options.retry.attempts
        self._longest = options.retry.max
        self._cooldown = options.breaker.cooldown
        self._backoff = wait_random_exponential(multiplier=options.retry.base, max=options.retry.max)
        self._retrying = Retrying()
        self._redactor = Redactor(secrets_in(options))

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after the given attempt (1 is the first): exponential, full jitter."""
        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number = attempt
        return self._backoff(state)

    def delivered(self, claim: Claim) -> Entry:
        """The entry for a message that the provider accepted."""
        if claim.plain:
            return (claim.ticket, claim.fence, "p")
        return (claim.ticket, claim.fence, "d", claim.message.attempts + 1)

    def settle(self, claim: Claim, outcome: Outcome) -> Settlement:
        if isinstance(outcome, Delivered):
            return Settlement(self.delivered(claim))
        message = claim.message
        if isinstance(outcome, Postponed):
            tries = claim.tries(attempts=message.attempts, alone=claim.alone)
            return Settlement((claim.ticket, claim.fence, "w", round(outcome.after * 1000), tries))
        attempts = message.attempts + 1
        match self._fit_to_be_told(outcome):
            case Retry() as failure:
                return Settlement(self._retry(claim, failure, attempts))
            case Throttled(reason=reason, after=after):
                seconds = None if after is None else min(after, LONGEST_HOLD)
                if message.destination:
                    return Settlement(_held(claim, seconds))
                return Settlement(_back(claim, alone=claim.alone), Hold("throttled", seconds, reason))
            case Unauthorised(reason=reason):
                hold = Hold("unauthorised", self._cooldown, reason)
                return Settlement(_back(claim, alone=claim.alone), hold)
            case Isolate():
                return Settlement(_back(claim, alone=True))
            case Unregistered(target=target, reason=reason, since=since):
                entry = (claim.ticket, claim.fence, "u", reason, target, since or 0, message.id, attempts)
                return Settlement(entry)
            case Rejected(reason=reason, status=status, body=body):
                return Settlement(_dead(claim, reason, status, body, attempts, answered=1))

    def _fit_to_be_told(self, outcome: Failure) -> Failure:
        """The reason as one printable line without our secrets, whatever an adapter returned."""
        match outcome:
            case Isolate():
                return outcome
            case Unregistered():
                return replace(outcome, reason=self._told(outcome.reason))
            case _:
                body = self._redactor.data(outcome.body)
                return replace(outcome, reason=self._told(outcome.reason), body=body)

    def _told(self, reason: str) -> str:
        return one_line(self._redactor.text(reason))

    def hand_back(self, claim: Claim) -> Entry:
        """The entry for a message that was never sent."""
        return _back(claim, alone=claim.alone)

    def expired(self, claim: Claim) -> Entry:
        """The entry for a message whose life ended between claim and send."""
        return (claim.ticket, claim.fence, "e", claim.message.attempts)

    def _retry(self, claim: Claim, outcome: Retry, attempts: int) -> Entry:
        if attempts >= self._attempts:
            reason = f"gave up after {attempts} attempts: {outcome.reason}"
            return _dead(claim, reason, outcome.status, outcome.body, attempts, answered=0)
        delay = self.backoff(attempts) if outcome.after is None else min(outcome.after, LONGEST_HOLD)
        tries = claim.tries(attempts=attempts, alone=claim.alone)
        return (claim.ticket, claim.fence, "r", max(1, round(delay * 1000)), tries, outcome.reason)


def _held(claim: Claim, seconds: float | None) -> Entry:
    """Its destination alone is held: for so long, or for its own growing wait."""
    milliseconds = 0 if seconds is None else max(1, round(seconds * 1000))
    tries = claim.tries(attempts=claim.message.attempts, alone=claim.alone)
    return (claim.ticket, claim.fence, "h", milliseconds, tries)


def _back(claim: Claim, *, alone: bool) -> Entry:
    return (claim.ticket, claim.fence, "b", claim.tries(attempts=claim.message.attempts, alone=alone))


def _dead(claim: Claim, reason: str, status: int, body: bytes, attempts: int, *, answered: int) -> Entry:
    return (claim.ticket, claim.fence, "x", reason, status, body[:BODY_LIMIT], attempts, answered)
