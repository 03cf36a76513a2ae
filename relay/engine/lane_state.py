"""The state of one lane in one process: claimed messages, the hold, and the wake-ups of its loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from relay.engine.slot_reserve import SlotReserve
from relay.store.claims import Claim, Hold
from relay.store.settlement import DeliveredHeaderless, Settlement

UNKNOWN_HOLD = 1.0
"""Seconds to hold immediately if the provider gives no time; the reply to the next settle has the fleet's
hold."""

ARRIVED = 1
"""Messages may have arrived in an empty lane."""
WOKEN = 2
"""The lane was resumed, refilled or released, so the reason to wait no longer applies."""
SLOT_FREED = 4
OUTCOME = 8
"""There are outcomes to settle."""
SETTLED = 16
AWAITED = 32
"""Not all outcomes to settle are deliveries that nobody waits for."""
TAKEN = 64
"""A direct claim has ended."""

Batch = list[Claim]


class Wakeups:
    """One condition with several reasons. A reason stays set until a loop clears it."""

    def __init__(self) -> None:
        self._reasons = 0
        self._waiters: dict[asyncio.Future[None], int] = {}

    def notify(self, reasons: int) -> None:
        self._reasons |= reasons
        for waiter, wanted in self._waiters.items():
            if wanted & reasons and not waiter.done():
                waiter.set_result(None)

    def clear(self, reasons: int) -> None:
        self._reasons &= ~reasons

    def is_set(self, reason: int) -> bool:
        return bool(self._reasons & reason)

    async def wait(self, reasons: int, seconds: float | None = None) -> None:
        """Return when one of the reasons is set, or after `seconds`."""
        if self._reasons & reasons:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters[waiter] = reasons
        timer = None if seconds is None else loop.call_later(seconds, _finish, waiter)
        try:
            await waiter
        finally:
            del self._waiters[waiter]
            if timer is not None:
                timer.cancel()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class LaneState:
    """Shared by the claimer, the sender and the settler of one lane."""

    def __init__(self, reserve: SlotReserve | None = None) -> None:
        """`reserve` is for a lane with groups."""
        self.wakeups = Wakeups()
        self.reserve = reserve

        # Set by the claimer, read by all.
        self.held: dict[str, float] = {}
        """By ticket of a claimed message: when its claim was sent, in monotonic seconds."""
        self.uncertain = False
        """Whether Redis may hold messages for this worker that are not in `held`."""

        self.groups_full = False
        """Whether messages wait for a settle, because their groups have as many in flight as they may."""

        # Set by the sender, read by the settler.
        self.settlements: list[Settlement] = []
        """The settlements that Redis does not have yet, the oldest first."""
        self.finished = 0
        """The number of messages that have left `held`."""
        self.refusals = 0
        """Those settlements whose failure may be our own: no claims and requests until Redis has them."""
        self.hold: Hold | None = None
        """A hold of which Redis, and so the rest of the fleet, does not know yet."""
        self.urgent = False
        """Whether a settlement unblocks another message. The settler clears it."""
        self.fault: Exception | None = None
        """A bug in a callback. The claimer clears and raises it, so that its loop is restarted."""

        # Set by the settler, read by all.
        self.held_until = 0.0
        """No claims and requests until then, in monotonic seconds."""

    @property
    def hold_left(self) -> float:
        """Return how many seconds the lane still holds; 0 or less if it does not."""
        if self.refusals:
            return UNKNOWN_HOLD
        return self.held_until - time.monotonic() if self.held_until else 0.0

    def finish(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        """Remove the messages of a batch, and add their settlements."""
        for claim in batch:
            del self.held[claim.ticket]
        self.finished += len(batch)
        if self.reserve is not None:
            self.reserve.finished(batch)
        self.settlements += settlements
        reasons = SLOT_FREED | OUTCOME
        for settlement in settlements:
            if type(settlement) is not DeliveredHeaderless:
                reasons |= AWAITED
                break
        self.wakeups.notify(reasons)

    def hold_for(self, seconds: float | None) -> None:
        """Stop claims and requests in this process."""
        self.held_until = time.monotonic() + (UNKNOWN_HOLD if seconds is None else seconds)

    def fail(self, error: Exception) -> None:
        """Report a bug in a callback to the claimer."""
        self.fault = error
        self.wakeups.notify(SLOT_FREED | ARRIVED | WOKEN)

    def raise_fault(self) -> None:
        """Raise the bug that was reported last, once."""
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault

    def drop_unknown(self, known: set[str]) -> None:
        """Forget messages that a failed step has lost. The next claim releases them first."""
        if len(known) < len(self.held):
            self.held = {ticket: sent for ticket, sent in self.held.items() if ticket in known}
            self.uncertain = True
            if self.reserve is not None:
                self.reserve.forget_messages()
            self.wakeups.notify(SETTLED)
