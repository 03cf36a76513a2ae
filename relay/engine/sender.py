"""Sends batches to the provider with a bounded number of requests, and turns outcomes into settlements."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from relay.engine.adapter_calls import AdapterCalls
from relay.engine.lane_state import UNKNOWN_HOLD, Batch, LaneState
from relay.engine.policy import LONGEST_HOLD, Policy
from relay.engine.repeats import thinned
from relay.outcome import Delivered, Faulty, Isolate, Outcome, Throttled, Unauthorised
from relay.provider import Provider
from relay.settings.options import ProviderOptions
from relay.store.lane import Claim
from relay.store.settlement import DeadLettered, Overdue, Settlement, TargetGone


class Sender:
    """The deliveries of one lane. They go on by callbacks: there is no loop to run."""

    def __init__(
        self,
        provider: Provider[ProviderOptions],
        state: LaneState,
        *,
        lease_valid_since: Callable[[float], bool],
        on_fault: Callable[[Exception], None],
        on_urgent: Callable[[], None],
    ) -> None:
        """`lease_valid_since`: see `Dispatcher`. `on_fault` gets an exception of a callback; `on_urgent` is
        called when an outcome lets another message go."""
        self.calls = AdapterCalls(provider)
        self._provider = provider
        self._state = state
        self._policy = Policy(provider.options)
        self._most = provider.options.concurrency
        self._lease_valid_since = lease_valid_since
        self._on_fault = on_fault
        self._on_urgent = on_urgent
        self._ready: deque[Batch] = deque()
        self._in_flight: dict[str, Batch] = {}
        """By the ticket of the first message."""
        self._has_groups = provider.options.group_rules is not None
        self._held_groups: dict[str, float] = {}
        """Groups that were asked to wait, each with the end of the wait in monotonic seconds."""

    def send(self, batch: Batch) -> None:
        """Send a batch as soon as there is a free slot."""
        self._ready.append(batch)
        self._send_ready()

    def reject_invalid(self, claims: Iterable[Claim]) -> Iterable[Claim]:
        """The claims that the adapter can send; the others end here."""
        for claim in claims:
            refusal = self.calls.refusal(claim.message)
            if refusal is None:
                yield claim
            else:
                self._state.finish([claim], [self._settle_failure(claim, refusal, alone=True)])

    def release(self, batch: Batch) -> None:
        """Put a batch back that was not sent."""
        self._state.finish(batch, [self._policy.release(claim) for claim in batch])

    def release_ready(self) -> None:
        """Put back all batches that were not sent."""
        while self._ready:
            self.release(self._ready.popleft())

    def tickets(self) -> set[str]:
        """The messages that wait for a slot or are in flight."""
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
        """The messages that are still ours and alive, and whose group was not asked to wait."""
        if not self._lease_valid_since(self._state.held[batch[0].ticket]):
            # Other workers may have them by now. If not, they come back.
            self.release(batch)
            return []
        for claim in batch:
            if claim.message.expires_at or self._held_groups:
                now = self._provider.clock()
                return [claim for claim in batch if self._may_go(claim, now)]
        return batch

    def _may_go(self, claim: Claim, now: float) -> bool:
        if 0 < claim.message.expires_at <= now:
            overdue = self._policy.expired(claim)
            self._report(claim, overdue)
            self._state.finish([claim], [overdue])
            return False
        if self._held_groups and self._waits(claim.message.group):
            self.release([claim])
            return False
        return True

    def _waits(self, group: str) -> bool:
        until = self._held_groups.get(group, 0.0)
        if until and until <= time.monotonic():
            del self._held_groups[group]
        return until > time.monotonic()

    def _done(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        del self._in_flight[batch[0].ticket]
        try:
            self._settle(batch, outcomes)
            self._send_ready()
        except Exception as error:
            self._on_fault(error)

    def _settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        settlements: list[Settlement] = []
        for claim, outcome in zip(batch, outcomes, strict=True):
            if not claim.plain and claim.message.ordering_key:
                self._on_urgent()
            if isinstance(outcome, Delivered):
                settlements.append(self._policy.delivered(claim))
            else:
                settlements.append(self._settle_failure(claim, outcome, alone=len(batch) == 1))
        self._state.finish(batch, settlements)

    def _settle_failure(self, claim: Claim, outcome: Outcome, *, alone: bool) -> Settlement:
        match outcome:
            case Unauthorised() | Faulty() if not alone:
                # One message may be to blame for the whole batch.
                return self._policy.settle(claim, Isolate(outcome.reason))
            case Unauthorised() | Faulty():
                # The settle says how the lane goes on.
                self._state.refusals += 1
                self.release_ready()
            case Throttled(after=after) if self._has_groups and claim.message.group:
                # The settle stops the rest of the fleet.
                wait = UNKNOWN_HOLD if after is None else min(after, LONGEST_HOLD)
                self._held_groups[claim.message.group] = time.monotonic() + wait
            case Throttled() if self._state.hold is None:
                self._state.hold = hold = self._policy.hold(outcome)
                self._state.hold_for(hold.seconds)
                self.release_ready()
        settlement = self._policy.settle(claim, outcome)
        self._report(claim, settlement)
        return settlement

    def _report(self, claim: Claim, settlement: Settlement) -> None:
        """Log a message that ends here. Not called for successes, which are the hot path."""
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
