"""Turns each outcome into a settlement of its message and a state of its lane. Pure, except for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec.structs import replace
from tenacity import RetryCallState, Retrying, wait_random_exponential

from relay.outcome import (
    BODY_LIMIT,
    Delivered,
    Failure,
    Faulty,
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
from relay.store.attempts import Attempt, appended
from relay.store.claims import Claim, Hold
from relay.store.settlement import (
    DeadLettered,
    Delayed,
    DeliveredHeaderless,
    DeliveredOne,
    DeliveredTarget,
    GroupHeld,
    LaneHeld,
    Overdue,
    Refused,
    Released,
    RetryLater,
    Settlement,
    TargetGone,
)
from relay.store.states import State
from relay.text import Redactor, one_line

LONGEST_HOLD = 3600.0
"""The longest hold of a lane, in seconds, for one response of its provider."""


class Policy:
    """The decisions for one provider, from its options."""

    def __init__(
        self, options: ProviderOptions, worker: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        """Failed attempts name `worker`; `clock` returns Unix seconds."""
        self._worker = worker
        self._clock = clock
        self._attempts = options.retry.attempts
        self._has_groups = options.group_rules is not None
        self._backoff = wait_random_exponential(multiplier=options.retry.base, max=options.retry.max)
        self._retrying = Retrying()
        self._redactor = Redactor(secrets_in(options))

    def settle(self, claim: Claim, outcome: Outcome) -> Settlement:
        """Return the settlement of the message."""
        if isinstance(outcome, Delivered):
            return self.delivered(claim, outcome.provider_id)
        return self.settle_failure(claim, self.printable(outcome))

    def settle_failure(self, claim: Claim, failure: Postponed | Failure) -> Settlement:
        """Return the settlement of a message that was not delivered. `failure` is `printable`."""
        attempts = claim.message.attempts + 1
        match failure:
            case Postponed(after=after):
                return Delayed(claim.ticket, claim.fencing_token, _milliseconds(after), claim.tries())
            case Retry():
                return self._retry(claim, failure, attempts)
            case Throttled(scope="target"):
                asked = wait_of(failure)
                wait = self.backoff(claim.deliveries + 1) if asked is None else asked
                return Delayed(claim.ticket, claim.fencing_token, max(1, _milliseconds(wait)), claim.tries())
            case Throttled() if self._has_groups and claim.message.group:
                asked = wait_of(failure)
                hold = 0 if asked is None else max(1, _milliseconds(asked))
                return GroupHeld(claim.ticket, claim.fencing_token, hold, claim.tries(), failure.reason)
            case Throttled():
                return LaneHeld(claim.ticket, claim.fencing_token, claim.tries())
            case Unauthorised():
                return self._refused(claim, failure, attempts, State.UNAUTHORISED)
            case Faulty(reason=reason):
                return self._refused(claim, Unauthorised(reason), attempts, State.FAULTY)
            case Isolate():
                return Released(claim.ticket, claim.fencing_token, claim.tries(isolated=True))
            case Unregistered(target=target, reason=reason, status=status, since=since):
                history = self._history(claim, reason, status)
                return TargetGone(
                    ticket=claim.ticket,
                    fencing_token=claim.fencing_token,
                    reason=reason,
                    target=target,
                    since=since or 0,
                    message_id=claim.message.id,
                    attempts=attempts,
                    tries=claim.tries(history=history),
                    again=claim.again,
                    status=status,
                )
            case Rejected(reason=reason, status=status, body=body):
                return DeadLettered(
                    claim.ticket,
                    claim.fencing_token,
                    reason,
                    status,
                    body[:BODY_LIMIT],
                    attempts,
                    answered=True,
                    history=self._history(claim, reason, status),
                )

    def hold(self, outcome: Throttled) -> Hold:
        """Return the hold of the lane that a provider asks for."""
        return Hold(wait_of(outcome), self._reason(outcome.reason))

    def delivered(self, claim: Claim, provider_id: str = "", status: int = 0) -> Settlement:
        """The provider accepted the message, with this id of its own and HTTP status."""
        if claim.headerless:
            return DeliveredHeaderless(claim.ticket, claim.fencing_token)
        if claim.part_of:
            return DeliveredTarget(claim.ticket, claim.fencing_token, claim.part_of)
        attempts = claim.message.attempts + 1
        if not claim.message.reply_to:
            return DeliveredOne(claim.ticket, claim.fencing_token, attempts)
        provider_id = provider_id and self._reason(provider_id)
        return DeliveredOne(claim.ticket, claim.fencing_token, attempts, status, provider_id)

    def release(self, claim: Claim) -> Settlement:
        """The message returns to its lane unchanged."""
        return Released(claim.ticket, claim.fencing_token, claim.tries())

    def expired(self, claim: Claim) -> Settlement:
        """The message expired between claim and send."""
        return Overdue(claim.ticket, claim.fencing_token, claim.message.attempts)

    def backoff(self, attempt: int) -> float:
        """Return the wait after an attempt (1 is the first) in seconds: exponential, with full jitter."""
        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number = attempt
        return self._backoff(state)

    def _refused(self, claim: Claim, outcome: Unauthorised, attempts: int, state: State) -> Settlement:
        return Refused(
            ticket=claim.ticket,
            fencing_token=claim.fencing_token,
            reason=outcome.reason,
            status=outcome.status,
            body=outcome.body[:BODY_LIMIT],
            attempts=attempts,
            target=outcome.target,
            unregistered=outcome.unregistered,
            message_id=claim.message.id,
            tries=claim.tries(history=self._history(claim, outcome.reason, outcome.status)),
            again=claim.again,
            state=state,
        )

    def _retry(self, claim: Claim, outcome: Retry, attempts: int) -> Settlement:
        history = self._history(claim, outcome.reason, outcome.status)
        if attempts >= self._attempts:
            reason = f"gave up after {attempts} attempts: {outcome.reason}"
            return DeadLettered(
                claim.ticket,
                claim.fencing_token,
                reason,
                outcome.status,
                outcome.body[:BODY_LIMIT],
                attempts,
                answered=False,
                history=history,
            )
        asked = wait_of(outcome)
        delay = self.backoff(attempts) if asked is None else asked
        tries = claim.tries(attempts=attempts, history=history)
        return RetryLater(
            claim.ticket, claim.fencing_token, max(1, _milliseconds(delay)), tries, outcome.reason
        )

    def printable(self, outcome: Postponed | Failure) -> Postponed | Failure:
        """Return the outcome without our secrets, and with a reason of one printable line."""
        match outcome:
            case Isolate() | Postponed() | Unregistered() | Faulty():
                return replace(outcome, reason=self._reason(outcome.reason))
            case _:
                body = self._redactor.data(outcome.body)
                return replace(outcome, reason=self._reason(outcome.reason), body=body)

    def _history(self, claim: Claim, reason: str, status: int) -> str:
        """Return the failed attempts of a message, with this one."""
        return appended(claim.history, Attempt(self._clock(), status, reason, self._worker))

    def _reason(self, text: str) -> str:
        return one_line(self._redactor.text(text))


def wait_of(outcome: Retry | Throttled) -> float | None:
    """Return the seconds to wait that the provider asks for; None: relay's own backoff.

    No time at all (`Retry-After: 0`, or a date that is past by our clock) asks for no wait: the request would
    be repeated as fast as the provider answers.
    """
    after = outcome.after
    return min(after, LONGEST_HOLD) if after is not None and after > 0 else None


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
