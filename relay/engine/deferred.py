"""Elements whose lane refuses messages. They wait in a list of their own, and are retried in order."""

from __future__ import annotations

import time

from relay.engine.intake_tuning import Tuning
from relay.engine.lane_writer import LaneWriter, log_lane_refusal
from relay.engine.progress import Progress
from relay.engine.router import Router
from relay.errors import StoreError
from relay.redis_client.client import is_refusal
from relay.store.queue import MAX_RETRIED, Queue


class DeferredElements:
    """The deferred elements of one queue. `providers` are those whose lanes have some."""

    def __init__(
        self, queue: Queue, router: Router, writer: LaneWriter, progress: Progress, tuning: Tuning
    ) -> None:
        self.providers: frozenset[str] = frozenset()
        self._queue = queue
        self._router = router
        self._writer = writer
        self._progress = progress
        self._tuning = tuning
        self._retry_at = 0.0

    def longest_wait(self) -> float:
        """Return how many seconds the intake may wait for new elements."""
        if not self.providers:
            return self._tuning.wait
        due = self._retry_at - time.monotonic()
        return max(self._tuning.max_poll_interval, min(self._tuning.deferred_interval, due))

    async def retry(self) -> None:
        """Enqueue some deferred elements if a retry is due and their lanes accept messages again."""
        if not self.providers or time.monotonic() < self._retry_at:
            return
        pause = self._tuning.deferred_interval
        for provider in sorted(self.providers):
            try:
                if await self._retry_lane(provider):
                    pause = 0.0
            except StoreError as error:
                if not is_refusal(error):
                    raise
                log_lane_refusal(self._queue, provider, error)
        self._progress.note_answer()
        self._retry_at = time.monotonic() + pause

    async def _retry_lane(self, provider: str) -> int:
        """Return the number of elements that have moved."""
        if not self._queue.is_beside_lanes:
            return await self._requeue(provider)
        elements = await self._queue.deferred(provider)
        for element in elements:
            await self._enqueue(provider, element)
        return len(elements)

    async def _enqueue(self, waits_for: str, element: bytes) -> None:
        provider, item = self._router.route(element)
        if provider == waits_for:
            await self._writer.enqueue_deferred(waits_for, item, element)
        else:  # the configuration has changed
            await self._queue.undefer(waits_for)

    async def _requeue(self, provider: str) -> int:
        """Queue some elements like new ones, because in a cluster no script reaches both queue and lane."""
        await self._writer.check_lane(provider)
        number = 0
        while number < MAX_RETRIED and await self._queue.undefer(provider):
            number += 1
        return number
