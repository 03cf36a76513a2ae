"""The shortest way of a message: one script moves a single element from its queue into flight.

It replaces the script of `fast_path` and a claim while the lane is empty and open: Redis needs 0.6 of the
instructions, and the claimer does not wake up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

from relay.engine.lane_state import ARRIVED, TAKEN, LaneState
from relay.engine.sender import Sender
from relay.errors import StoreError
from relay.message import Message
from relay.redis_client.client import is_refusal
from relay.store.claims import Claim
from relay.store.items import Item
from relay.store.lane import Lane
from relay.store.queue import Queue


class DirectClaims:
    """The direct claims of one lane. The claimer opens them while it waits for messages."""

    def __init__(
        self,
        lane: Lane,
        state: LaneState,
        sender: Sender,
        slots: int,
        *,
        lease_valid_since: Callable[[float], bool],
        on_fault: Callable[[Exception], None],
    ) -> None:
        """`lease_valid_since`: see `Dispatcher`. `on_fault` gets an exception of the adapter."""
        self._lane = lane
        self._state = state
        self._sender = sender
        self._slots = slots
        self._lease_valid_since = lease_valid_since
        self._on_fault = on_fault
        self._is_open = False
        self._under_way = 0
        """Messages that may be in flight according to Redis, and are not in `state.held` yet."""

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Allow direct claims: the last claim found that nothing waits, and that the lane is open."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False

    @property
    def is_idle(self) -> bool:
        """Whether no message is on its way."""
        return not self._under_way

    async def until_idle(self) -> None:
        """Return when no message is on its way."""
        while self._under_way:
            self._state.wakeups.clear(TAKEN)
            await self._state.wakeups.wait(TAKEN)

    def accepts(self, item: Item) -> TypeGuard[Message]:
        """Whether an element may take this way."""
        state = self._state
        return (
            self._is_open
            and len(state.held) + self._under_way < self._slots
            and state.hold_left <= 0
            and not state.uncertain
            and self._lane.claims_directly(item)
        )

    async def take(self, message: Message, queue: Queue, element: bytes) -> int | None:
        """Move a staged element into flight, and send it. Returns how many elements are left in the queue, or
        None if this one has to go through the lane. Raises StoreError."""
        state, sent = self._state, time.monotonic()
        if not self._lease_valid_since(sent):
            return None
        self._under_way += 1
        try:
            taken = await self._lane.take(message, queue, element)
            if taken is not None:
                state.held[taken.claim.ticket] = sent
        except BaseException as error:
            if not (isinstance(error, StoreError) and is_refusal(error)):
                # It may be in flight. The next claim releases it.
                state.uncertain = True
                state.wakeups.notify(ARRIVED)
            raise
        finally:
            self._under_way -= 1
            state.wakeups.notify(TAKEN)
        if taken is None:
            return None
        try:
            self._send(taken.claim)
        except Exception as error:
            self._on_fault(error)
        return taken.left

    def _send(self, claim: Claim) -> None:
        """Send a message. Releases it if the lane has begun to hold."""
        batches = [[valid] for valid in self._sender.reject_invalid([claim])]
        if self._state.hold_left > 0:
            self._sender.release(batches)
        else:
            self._sender.send(batches)
