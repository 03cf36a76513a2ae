"""Sends batches to the provider with a bounded number of requests, and turns outcomes into settlements."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from relay.engine.adapter_calls import AdapterCalls
from relay.engine.batching import batches
from relay.engine.lane_state import UNKNOWN_HOLD, Batch, LaneState
from relay.engine.policy import Policy, wait_of
from relay.engine.recorder import LaneRecorder
from relay.engine.repeats import thinned
from relay.outcome import (
    Delivered,
    Failure,
    Faulty,
    Isolate,
    Outcome,
    Postponed,
    Retry,
    Throttled,
    Unauthorised,
)
from relay.provider import Provider
from relay.settings.options import ProviderOptions
from relay.store.claims import Claim
from relay.store.settlement import DeadLettered, Overdue, Settlement, TargetGone

MOST_HELD_GROUPS = 1000
"""Throttled groups that are remembered before the ones are forgotten of which no message is left."""


class Sender:
    """The deliveries of one lane. They continue by callbacks, so there is no loop to run."""

    def __init__(
        self,
        provider: Provider[ProviderOptions],
        state: LaneState,
        *,
        lease_valid_since: Callable[[float], bool],
        on_fault: Callable[[Exception], None],
        recorder: LaneRecorder,
        calls: AdapterCalls | None = None,
    ) -> None:
        """`lease_valid_since` and `calls`: see `Dispatcher`. `on_fault` gets an exception of a callback."""
        options = provider.options
        self.calls = calls or AdapterCalls(provider)
        self._provider = provider
        self._state = state
        self._policy = Policy(options, recorder.worker)
        self._most = options.concurrency
        self._lease_valid_since = lease_valid_since
        self._on_fault = on_fault
        self._recorder = recorder

        # Private state of the deliveries.
        self._ready: deque[Batch] = deque()
        self._in_flight: dict[str, Batch] = {}
        """By the ticket of the first message."""
        self._held_groups: dict[str, float] | None = None if options.group_rules is None else {}
        """By throttled group: messages that were claimed before this monotonic time are released.
        Redis holds the group for later claims. None without groups."""

    def send(self, batches: Iterable[Batch]) -> None:
        """Send batches as soon as slots are free."""
        self._ready.extend(batches)
        self._send_ready()

    def batches(self, claims: Iterable[Claim]) -> list[Batch]:
        """Return the claims that the adapter can send, in batches, and settle the others."""
        return batches(self.reject_invalid(claims), self._provider.batch_size, self.calls.group)

    def reject_invalid(self, claims: Iterable[Claim]) -> list[Claim]:
        """Return the claims that the adapter can send, and settle the others."""
        valid = []
        for claim in claims:
            refusal = self.calls.refusal(claim.message)
            if refusal is None:
                valid.append(claim)
            else:
                self._state.finish([claim], [self._settle_failure(claim, refusal, 0.0, 0)])
        return valid

    def release(self, batches: Iterable[Batch]) -> None:
        """Release batches that were not sent."""
        for batch in batches:
            self._release(batch)

    def release_ready(self) -> None:
        """Release all batches that were not sent."""
        while self._ready:
            self._release(self._ready.popleft())

    def _release(self, batch: Batch) -> None:
        self._state.finish(batch, [self._policy.release(claim) for claim in batch])

    def tickets(self) -> set[str]:
        """Return the tickets of the messages that wait for a slot or are in flight."""
        return {claim.ticket for batch in (*self._ready, *self._in_flight.values()) for claim in batch}

    async def close(self) -> None:
        """Cancel the deliveries in flight."""
        await self.calls.close()

    def _send_ready(self) -> None:
        while self._ready and len(self._in_flight) < self._most:
            batch = self._still_to_send(self._ready.popleft())
            if batch:
                self._in_flight[batch[0].ticket] = batch
                try:
                    self.calls.start([claim.message for claim in batch], partial(self._done, batch))
                except Exception:
                    del self._in_flight[batch[0].ticket]
                    raise

    def _still_to_send(self, batch: Batch) -> Batch:
        """Return the messages that are not expired and may still be sent by this worker."""
        if not self._lease_valid_since(self._state.held[batch[0].ticket]):
            # Other workers may have recovered them. If not, a release returns them to the lane.
            self._release(batch)
            return []
        for claim in batch:
            if claim.message.expires_at or self._held_groups:
                now = self._provider.clock()
                return [claim for claim in batch if self._may_go(claim, now)]
        return batch

    def _may_go(self, claim: Claim, now: float) -> bool:
        if 0 < claim.message.expires_at <= now:
            overdue = self._policy.expired(claim)
            self._recorder.expired(claim)
            self._report(claim, overdue)
            self._state.finish([claim], [overdue])
            return False
        if self._held_groups and claim.message.group in self._held_groups:
            if self._held_groups[claim.message.group] > self._state.held[claim.ticket]:
                self._release([claim])
                return False
            del self._held_groups[claim.message.group]
        return True

    def _done(self, batch: Batch, outcomes: Sequence[Outcome], started: float, status: int) -> None:
        del self._in_flight[batch[0].ticket]
        try:
            self._recorder.answered(batch, outcomes, started, status)
            self._settle(batch, outcomes, started, status)
            self._send_ready()
        except Exception as error:
            self._on_fault(error)

    def _settle(self, batch: Batch, outcomes: Sequence[Outcome], started: float, status: int) -> None:
        settlements: list[Settlement] = []
        reserve = self._state.reserve
        for claim, outcome in zip(batch, outcomes, strict=True):
            if not claim.headerless and claim.message.ordering_key:
                self._state.urgent = True
            if isinstance(outcome, Delivered):
                settlements.append(self._policy.delivered(claim, outcome.provider_id, status))
                if reserve is not None:
                    reserve.answered(claim.message.group)
            elif len(batch) == 1:
                settlements.append(self._settle_failure(claim, outcome, started, status))
            else:
                settlements.append(self._settle_failure(claim, _isolated(outcome), started, status))
        self._state.finish(batch, settlements)

    def _settle_failure(
        self, claim: Claim, outcome: Postponed | Failure, started: float, status: int
    ) -> Settlement:
        if self._state.reserve is not None and isinstance(outcome, Retry):
            self._state.reserve.failed(claim.message.group)
        match outcome:
            case Unauthorised() | Faulty():
                # The reply to the settle has the next state of the lane.
                self._state.refusals += 1
                self.release_ready()
            case Throttled(scope="target"):
                name, reason = self._provider.name, self._policy.hold(outcome).reason
                event = "the target is throttled; its message waits"
                thinned.log("info", event, name, reason, provider=name, id=claim.message.id)
            case Throttled() if self._held_groups is not None and claim.message.group:
                self._hold_group(claim.message.group, self._held_groups, wait_of(outcome))
            case Throttled() if self._state.hold is None:
                self._state.hold = hold = self._policy.hold(outcome)
                self._state.hold_for(hold.seconds)
                self.release_ready()
        printable = self._policy.printable(outcome)
        settlement = self._policy.settle_failure(claim, printable)
        self._recorder.failed(claim, printable, settlement, started, status)
        self._report(claim, settlement)
        return settlement

    def _hold_group(self, group: str, held: dict[str, float], after: float | None) -> None:
        """Release the messages of a group that are claimed before Redis has the hold."""
        if len(held) >= MOST_HELD_GROUPS:
            oldest = min(self._state.held.values())
            for name in [name for name, until in held.items() if until <= oldest]:
                del held[name]
        held[group] = time.monotonic() + min(UNKNOWN_HOLD, UNKNOWN_HOLD if after is None else after)

    def _report(self, claim: Claim, settlement: Settlement) -> None:
        """Log the end of a message that was not delivered."""
        name, message_id = self._provider.name, claim.message.id
        match settlement:
            case DeadLettered(reason=reason):
                thinned.log("warning", "dead letter", name, reason, provider=name, id=message_id)
            case TargetGone(reason=reason):
                thinned.log(
                    "warning", "the target is unregistered", name, reason, provider=name, id=message_id
                )
            case Overdue():
                thinned.log("info", "expired before it was sent", name, "", provider=name, id=message_id)


def _isolated(outcome: Postponed | Failure) -> Postponed | Failure:
    """Return the outcome in a larger batch, because another of its messages may have caused a refusal."""
    match outcome:
        case Unauthorised() | Faulty():
            return Isolate(outcome.reason)
        case _:
            return outcome
