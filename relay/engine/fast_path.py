"""The fast path: one script moves a single element from its queue into its lane.

It replaces a fetch, an enqueue and an acknowledgement: one round trip instead of three.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.engine.deferred import DeferredElements
from relay.engine.lane_writer import Direct, LaneWriter
from relay.engine.progress import Progress
from relay.engine.router import Router
from relay.message import Message
from relay.store.items import Item, Malformed
from relay.store.queue import Queue
from relay.store.waits import TOO_LONG


class FastPath:
    """The fast path of one queue. Off in a cluster, because no script reaches both queue and lane there."""

    def __init__(
        self,
        queue: Queue,
        router: Router,
        writer: LaneWriter,
        deferred: DeferredElements,
        progress: Progress,
        direct: Mapping[str, Direct],
        *,
        max_queue_length: int,
    ) -> None:
        """`direct` are the direct claims of this process, by provider."""
        self._queue = queue
        self._router = router
        self._writer = writer
        self._deferred = deferred
        self._progress = progress
        self._direct = direct
        self._max_queue_length = max_queue_length

    async def enqueue_direct(self, element: bytes) -> bool:
        """Enqueue a single element directly. Returns False if a fetch must follow.

        A fetch follows if the element cannot take this path, or if more elements wait behind it. Raises
        StoreError.
        """
        if not self._queue.is_beside_lanes or element == TOO_LONG:
            return False
        provider, item = self._router.route(element)
        if provider is None or isinstance(item, Malformed) or provider in self._deferred.providers:
            return False
        left = await self._move(provider, item, element)
        if left is None:
            return False
        self._progress.fetched += 1
        return left <= self._max_queue_length

    async def _move(self, provider: str, item: Item, element: bytes) -> int | None:
        """Move the element into flight or into its lane. Returns how many are left in the queue."""
        direct = self._direct.get(provider)
        if direct is not None and isinstance(item, Message) and direct.accepts([item]):
            left = await direct.take(item, self._queue, element)
            if left is not None:
                self._progress.note_answer()
                return left
        enqueued = await self._writer.enqueue_direct(provider, item, element)
        return None if enqueued is None else enqueued.left
