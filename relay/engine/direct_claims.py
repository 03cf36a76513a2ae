"""The shortest way of messages: one script moves an element of a queue, or a part of a fetch, into flight.

It replaces the script that puts messages into their lane and a claim, while the lane is empty and open: Redis
needs 0.6 of the instructions, and the claimer does not wake up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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

    def accepts(self, items: Sequence[Item]) -> TypeGuard[Sequence[Message]]:
        """Return whether elements may take this way."""
        state = self._state
        return (
            self._is_open
            and len(state.held) + self._under_way + len(items) <= self._slots
            and state.hold_left <= 0
            and not state.uncertain
            and self._lease_valid_since(time.monotonic())
            and all(map(self._lane.claims_directly, items))
        )

    async def take(self, message: Message, queue: Queue, element: bytes) -> int | None:
        """Move a staged element into flight, and send it. Returns how many elements are left in the queue, or
        None if this one has to go through the lane. Raises StoreError."""
        sent = time.monotonic()
        with self._on_the_way(1):
            taken = await self._lane.take(message, queue, element)
            if taken is not None:
                self.hold([taken.claim], sent)
        if taken is None:
            return None
        self.send([taken.claim])
        return taken.left

    async def enqueue(self, messages: Sequence[Message], batch_id: str, sequence: str) -> bool:
        """Put a batch of a fetch into flight, and send it. Returns False if it has to go through the lane.
        Raises StoreError."""
        sent = time.monotonic()
        with self._on_the_way(len(messages)):
            claims = await self._lane.enqueue_into_flight(messages, batch_id, sequence)
            self.hold(claims or (), sent)
        if claims is None:
            return False
        self.send(claims)
        return True

    def hold(self, claims: Sequence[Claim], sent: float) -> None:
        """Hold messages, which a script that was sent at this time has put into flight."""
        for claim in claims:
            self._state.held[claim.ticket] = sent

    def begin(self, number: int) -> None:
        """So many messages may be in flight according to Redis from now on. Call `end` afterwards."""
        self._under_way += number

    def failed(self, error: BaseException) -> None:
        """No reply has come for messages that are on their way."""
        if not (isinstance(error, StoreError) and is_refusal(error)):
            # They may be in flight. The next claim releases them.
            self._state.uncertain = True
            self._state.wakeups.notify(ARRIVED)

    def end(self, number: int) -> None:
        """So many messages are in `state.held`, or their script has failed."""
        self._under_way -= number
        self._state.wakeups.notify(TAKEN)

    @contextmanager
    def _on_the_way(self, number: int) -> Iterator[None]:
        """Count messages until they are in `state.held`."""
        self.begin(number)
        try:
            yield
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            self.end(number)

    def send(self, claims: Sequence[Claim]) -> None:
        """Send messages. Releases them if the lane has begun to hold."""
        try:
            batches = self._sender.batches(claims)
            if self._state.hold_left > 0:
                self._sender.release(batches)
            else:
                self._sender.send(batches)
        except Exception as error:
            self._on_fault(error)
