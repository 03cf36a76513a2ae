"""The state of one lane in one process: the messages in hand, the hold, and the wake-ups of its loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from relay.store.lane import Claim, Hold
from relay.store.settlement import Settlement

UNKNOWN_HOLD = 1.0
"""Seconds to hold at once if the provider names no time; the next settle says how long the fleet holds."""

ARRIVED = 1
"""Messages may have arrived in a lane that was empty."""
WOKEN = 2
"""The lane was resumed, refilled, or released: the reason to wait no longer applies."""
SLOT_FREED = 4
OUTCOME = 8
"""There is something to settle."""
SETTLED = 16

Batch = list[Claim]


class Wakeups:
    """One condition with several reasons. A reason stays until a loop clears it."""

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

    async def wait(self, reasons: int, seconds: float | None = None) -> None:
        """Return when one of the reasons has been notified, at once if it was before, or after so many
        seconds."""
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

    def __init__(self) -> None:
        self.wakeups = Wakeups()
        # Set by the claimer, read by all.
        self.held: dict[str, float] = {}
        """Tickets of the messages in hand, by when their claim was sent (monotonic seconds)."""
        self.uncertain = False
        """Whether Redis may hold messages for this worker of which it does not know."""
        # Set by the sender, read by the settler.
        self.settlements: list[Settlement] = []
        """Those that Redis has not got yet, the oldest first."""
        self.finished = 0
        """Messages that have left `held`, so far."""
        self.refusals = 0
        """Those among them that may be our fault: nothing is claimed and sent until Redis has them."""
        self.hold: Hold | None = None
        """A hold that Redis does not know of yet, and so nobody else."""
        # Set by the settler, read by all.
        self.held_until = 0.0
        """Monotonic seconds until which nothing is claimed and sent."""

    @property
    def hold_left(self) -> float:
        """Seconds for which the lane still holds; 0 or less if it does not."""
        if self.refusals:
            return UNKNOWN_HOLD
        return self.held_until - time.monotonic() if self.held_until else 0.0

    def finish(self, batch: Batch, settlements: Iterable[Settlement]) -> None:
        """The messages of a batch are no longer in hand, and their outcomes are to be settled."""
        for claim in batch:
            del self.held[claim.ticket]
        self.finished += len(batch)
        self.settlements += settlements
        self.wakeups.notify(SLOT_FREED | OUTCOME)

    def hold_for(self, seconds: float | None) -> None:
        """Stop claiming and sending in this process."""
        self.held_until = time.monotonic() + (UNKNOWN_HOLD if seconds is None else seconds)

    def drop_unknown(self, known: set[str]) -> None:
        """Forget messages that a failed step had in hand: the next claim releases them first."""
        if len(known) < len(self.held):
            self.held = {ticket: asked for ticket, asked in self.held.items() if ticket in known}
            self.uncertain = True
            self.wakeups.notify(SETTLED)
