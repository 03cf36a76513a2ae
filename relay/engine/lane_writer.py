"""Enqueues the elements of one queue into their lanes, and notifies listeners."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from relay.engine.progress import Progress
from relay.engine.repeats import thinned
from relay.errors import StoreError
from relay.message import Message
from relay.redis_client.client import is_about_keys, is_refusal
from relay.redis_client.replication import Replicas
from relay.store.items import Enqueued, Item
from relay.store.lane import Lane
from relay.store.queue import Queue


@dataclass(frozen=True, slots=True)
class Listeners:
    """Callbacks for events in a lane; each gets the name of the provider."""

    on_arrival: Callable[[str], None]
    """Messages are on their way into the lane: a claim that is sent now finds them."""
    on_ready: Callable[[str, int], None]
    """Messages were enqueued; the number is that of all ready messages of the lane."""
    on_outbox: Callable[[str], None]
    """The outbox of the lane has entries."""


class Direct(Protocol):
    """The direct claims of one lane: see `direct_claims`."""

    def accepts(self, items: Sequence[Item]) -> TypeGuard[Sequence[Message]]:
        """Return whether elements may be sent at once."""

    async def take(self, message: Message, queue: Queue, element: bytes) -> int | None:
        """Send a staged element. Returns how many are left; None: it has to go through the lane."""

    async def enqueue(self, messages: Sequence[Message], batch_id: str, sequence: str) -> bool:
        """Send a part of a fetch. Returns False if it has to go through the lane."""


class DirectMany(Protocol):
    """The direct claims of all lanes: see `direct_parts`."""

    async def enqueue(
        self, by_lane: Mapping[str, Sequence[Item]], batch_id: str, sequence: str
    ) -> dict[str, StoreError | None]:
        """Send parts of a fetch. Returns the providers of these parts, with the error of a lane that refused
        its part; all others have to go through their lanes."""


@dataclass(frozen=True, slots=True)
class Written:
    """The effect of a fetch on its lanes."""

    refused: frozenset[str]
    """Providers whose lanes alone refuse messages."""
    ready: float
    """The ready messages of the lane that has the fewest."""


class LaneWriter:
    """Writes from one queue into its lanes. Every method raises StoreError."""

    def __init__(
        self,
        queue: Queue,
        lanes: Mapping[str, Lane],
        replicas: Replicas,
        listeners: Listeners,
        progress: Progress,
        direct: Mapping[str, Direct],
        parts: DirectMany | None = None,
    ) -> None:
        """`direct` are the direct claims of this process, by provider. `parts` use them for several lanes at
        once."""
        self._queue = queue
        self._lanes = lanes
        self._replicas = replicas
        self._listeners = listeners
        self._progress = progress
        self._direct = direct
        self._parts = parts

    async def enqueue_all(self, by_lane: Mapping[str, Sequence[Item]], sequence: str) -> Written:
        """Enqueue the elements of a fetch."""
        ready: dict[str, int | None] = {}
        if self._parts is not None and len(by_lane) > 1:
            ready = self._sent(await self._parts.enqueue(by_lane, self._queue.batch_id, sequence))
        others = {provider: items for provider, items in by_lane.items() if provider not in ready}
        ready |= await self._enqueue_each(others, sequence)
        refused = frozenset(provider for provider, number in ready.items() if number is None)
        return Written(
            refused, min((number for number in ready.values() if number is not None), default=math.inf)
        )

    def _sent(self, results: Mapping[str, StoreError | None]) -> dict[str, int | None]:
        """Return what `_attempt` returns, for parts of a fetch that went into flight or were refused."""
        ready: dict[str, int | None] = {}
        for provider, error in results.items():
            ready[provider] = 0
            if error is not None:
                self._check_refusal(provider, error)
                ready[provider] = None
        if results:
            self._progress.note_answer()
        return ready

    async def _enqueue_each(
        self, by_lane: Mapping[str, Sequence[Item]], sequence: str
    ) -> dict[str, int | None]:
        """Enqueue elements with a script for each lane. Returns what `_attempt` returns."""
        if len(by_lane) == 1:
            # Without a task, which would cost each message of a backlog its share.
            ((provider, items),) = by_lane.items()
            return {provider: await self._attempt(provider, items, sequence)}
        # All end before an error is raised, so that none continues in the background.
        results = await asyncio.gather(
            *(self._attempt(provider, items, sequence) for provider, items in by_lane.items()),
            return_exceptions=True,
        )
        return {provider: _value(result) for provider, result in zip(by_lane, results, strict=True)}

    async def _attempt(self, provider: str, items: Sequence[Item], sequence: str) -> int | None:
        """Return the number of ready messages, or None if the lane refuses messages."""
        try:
            return await self._enqueue(provider, items, sequence)
        except StoreError as error:
            self._check_refusal(provider, error)
            return None

    def _check_refusal(self, provider: str, error: StoreError) -> None:
        """Log that elements wait for a lane that refuses them. Raises any other error."""
        if not is_lane_refusal(self._queue, error):
            raise error
        log_lane_refusal(self._queue, provider, error)

    async def _enqueue(self, provider: str, items: Sequence[Item], sequence: str) -> int:
        lane, direct = self._lanes[provider], self._direct.get(provider)
        if (
            direct is not None
            and direct.accepts(items)
            and await direct.enqueue(items, self._queue.batch_id, sequence)
        ):
            await lane.wait_for_replica(self._replicas)
            self._progress.note_answer()
            return 0
        if self._queue.is_beside_lanes:
            # A claim uses the same connection, so it runs right after the enqueue.
            self._listeners.on_arrival(provider)
        enqueued = await lane.enqueue(items, self._queue.batch_id, sequence)
        await lane.wait_for_replica(self._replicas)
        self._notify(provider, enqueued)
        return enqueued.ready

    async def enqueue_direct(self, provider: str, item: Item, element: bytes) -> Enqueued | None:
        """Move a staged element into its lane. Returns None if it must be fetched."""
        self._listeners.on_arrival(provider)
        try:
            enqueued = await self._lanes[provider].enqueue_direct(item, self._queue, element)
        except StoreError:
            # The element may be in its lane by now, and no fetch will notify the lane.
            self._listeners.on_arrival(provider)
            raise
        if enqueued is not None:
            self._notify(provider, enqueued)
        return enqueued

    async def enqueue_deferred(self, provider: str, item: Item, element: bytes) -> None:
        """Move the first deferred element of a lane into it."""
        enqueued = await self._lanes[provider].enqueue_deferred(item, self._queue, element)
        if enqueued is not None:
            self._notify(provider, enqueued)

    async def blocked(self, providers: Iterable[str], sequence: str) -> frozenset[str]:
        """Return the providers whose elements of a fetch must follow deferred ones, of `providers` that have
        some. Those whose lanes have got the fetch before are not among them."""
        lanes = self._lanes
        return frozenset(
            [name for name in providers if not await has_fetch(self._queue, lanes[name], sequence)]
        )

    async def check_lane(self, provider: str) -> None:
        """Raise StoreError if the lane still refuses messages."""
        if provider in self._lanes:
            await self._lanes[provider].check_keys()

    def _notify(self, provider: str, enqueued: Enqueued) -> None:
        self._progress.note_answer()
        if not enqueued.in_turn:
            self._listeners.on_arrival(provider)
        if enqueued.outbox:
            self._listeners.on_outbox(provider)
        self._listeners.on_ready(provider, enqueued.ready)


def is_lane_refusal(queue: Queue, error: StoreError) -> bool:
    """Return whether the elements of one lane should wait after this error, while other lanes continue.

    If Redis refuses everything, the fetch stays on the processing list, because the next fetch fails as well.
    In a cluster the error may be a passing one of the lane's node, so elements wait only if a key is wrong.
    """
    return is_refusal(error) if queue.is_beside_lanes else is_about_keys(error)


async def has_fetch(queue: Queue, lane: Lane, number: str) -> bool:
    """Return whether a lane has its elements of a fetch, or of a part of it. False if it cannot be read.

    Raises StoreError.
    """
    try:
        return await lane.has_batch(queue.batch_id, number)
    except StoreError as error:
        if not is_lane_refusal(queue, error):
            raise
        return False


def log_lane_refusal(queue: Queue, provider: str, error: StoreError) -> None:
    """Log that elements wait for a lane."""
    about = {"provider": provider, "queue": queue.name}
    thinned.log("warning", "a lane refuses messages; they wait", provider, str(error), **about)


def _value(result: int | BaseException | None) -> int | None:
    if isinstance(result, BaseException):
        raise result
    return result
