"""Queue to lanes: wait, fetch, route, enqueue, acknowledge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from relay.engine.deferred import DeferredElements
from relay.engine.fast_path import FastPath
from relay.engine.fetch_sizer import FetchSizer
from relay.engine.intake_tuning import DEFAULTS, Tuning
from relay.engine.lane_writer import Direct, DirectMany, LaneWriter, Listeners
from relay.engine.progress import Progress
from relay.engine.repeats import redis_trouble, thinned
from relay.engine.router import Router, is_any_ordered
from relay.errors import StoreError
from relay.redis_client.client import is_refusal
from relay.redis_client.replication import Replicas
from relay.store.lane import Lane
from relay.store.queue import NO_ACK, Fetch, Queue

logger = structlog.get_logger()


class Intake:
    """The loop of one queue in one process.

    The processing list in Redis is the truth: after an error the loop fetches that list again, because an
    answer may have been lost, or a failover may have undone an acknowledged write.
    """

    def __init__(
        self,
        queue: Queue,
        router: Router,
        lanes: Mapping[str, Lane],
        *,
        replicas: Replicas,
        listeners: Listeners,
        direct: Mapping[str, Direct] | None = None,
        parts: DirectMany | None = None,
        tuning: Tuning = DEFAULTS,
    ) -> None:
        """`direct` and `parts`: see `LaneWriter`."""
        self.queue = queue
        self.router = router
        self.progress = Progress()
        self._tuning = tuning
        if queue.is_beside_lanes:
            queue.waits.early = tuning.wait
        direct = direct or {}
        self._writer = LaneWriter(queue, lanes, replicas, listeners, self.progress, direct, parts)
        self._deferred = DeferredElements(queue, router, self._writer, self.progress, tuning)
        self._sizer = FetchSizer(tuning)
        self._fast_path = FastPath(
            *(queue, router, self._writer, self._deferred, self.progress, direct),
            max_queue_length=tuning.max_queue_length,
        )
        self._ack = NO_ACK

    @property
    def taken(self) -> int:
        """The number of elements fetched from the queue."""
        return self.progress.fetched

    @property
    def malformed(self) -> int:
        """The number of those that are no valid messages."""
        return self.progress.too_large + self.router.malformed

    async def run(self) -> None:
        """Move elements until cancelled. Fetched elements stay on the processing list until they are
        enqueued."""
        until_redis_answers = AsyncRetrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            before_sleep=self._report_attempt,
        )
        try:
            while True:
                try:
                    await self.step()
                except StoreError as error:
                    self._report(error)
                    await asyncio.sleep(self._tuning.refusal_pause)
                    await until_redis_answers(self.step)
        finally:
            await self.queue.waits.close()

    async def step(self) -> None:
        """Fetch and enqueue; wait for elements if there are none. Raises StoreError."""
        began = time.monotonic()
        await self._deferred.retry()
        fetch = await self._fetch(self._sizer.size)
        if not fetch.elements and not fetch.too_large:
            await self._wait()
            return
        await self._enqueue(fetch)
        self.progress.refused = None
        pause = self._sizer.pause(time.monotonic() - began)
        # During the pause this worker must hold no fetch, because others may wait for it.
        if pause and not (await self._fetch(0)).elements:
            await asyncio.sleep(pause)

    async def finish(self) -> None:
        """After `run` was cancelled: enqueue all that it had fetched. Raises StoreError."""
        fetch = await self.queue.fetch(most=0)
        self.progress.note_answer()
        if fetch.elements:
            await self._enqueue(fetch)
            await self.queue.fetch(self._ack, most=0)

    async def _wait(self) -> None:
        """Enqueue single elements as they arrive. Returns when a fetch must follow."""
        polls = 1 if self._deferred.providers else self._tuning.empty_polls
        seconds = self._deferred.longest_wait()
        while polls:
            element = await self._poll(seconds)
            seconds = self._next_wait(element)
            if element is None:
                polls = self._polls_left(polls)
            elif not await self._fast_path.enqueue_direct(element):
                return

    def _polls_left(self, polls: int) -> int:
        """Return how many waits without an element remain before a fetch."""
        if self._deferred.providers:
            return polls - 1
        match self._recent_scan():
            case True:
                return 0
            case False:
                return polls
            case None:
                return polls - 1

    def _recent_scan(self) -> bool | None:
        return self.progress.recent_scan(self._tuning.empty_polls * self._tuning.wait)

    def _next_wait(self, element: bytes | None) -> float:
        """Return how many seconds to wait for the next element after this one, or after none."""
        is_idle = element is None and not self._deferred.providers and self._recent_scan() is False
        return self._tuning.idle_wait if is_idle else self._deferred.longest_wait()

    async def _poll(self, seconds: float) -> bytes | None:
        self.progress.longer_wait = max(0.0, seconds - self._tuning.wait)
        self.progress.waiting = True
        try:
            element = await self.queue.waits.next(seconds)
        finally:
            self.progress.waiting = False
            self.progress.longer_wait = 0.0
        self.progress.note_answer()
        self.progress.refused = None
        return element

    async def _fetch(self, most: int) -> Fetch:
        ack, self._ack = self._ack, NO_ACK
        if self._is_stalled():
            # A failover may have undone the enqueue.
            ack = NO_ACK
        fetch = await self.queue.fetch(ack, most=most)
        self.progress.note_answer()
        self.progress.fetched += len(fetch.elements) + len(fetch.too_large)
        self.progress.too_large += len(fetch.too_large)
        self._deferred.providers = fetch.deferred
        for size in fetch.too_large:
            reason = f"too large: {size} bytes"
            thinned.log("warning", "dead letter", self.queue.name, reason, filed_under=self.queue.name)
        return fetch

    async def _enqueue(self, fetch: Fetch) -> None:
        if self._is_stalled():
            # Others may have declared this worker dead and recovered the fetch.
            return
        by_lane, rejected = self.router.sort(fetch.elements)
        if fetch.preceding and is_any_ordered(by_lane):
            await self._wait_for_preceding(fetch)
        # The elements of a lane keep their order, so they follow its deferred ones.
        deferred = self._deferred.providers & by_lane.keys() if self.queue.is_beside_lanes else ()
        blocked = await self._writer.blocked(deferred, fetch.sequence)
        free = {provider: items for provider, items in by_lane.items() if provider not in blocked}
        written = await self._writer.enqueue_all(free, fetch.sequence)
        self._sizer.adapt(fetch.elements, len(by_lane), written.ready)
        self._ack = self.router.acknowledge(fetch, by_lane, rejected, refused=blocked | written.refused)

    async def _wait_for_preceding(self, fetch: Fetch) -> None:
        """Return when all earlier fetches, by any worker, are in their lanes or wait for these."""
        preceding, delay = fetch.preceding, 0.001
        deadline = time.monotonic() + self._tuning.preceding_timeout
        while preceding and time.monotonic() < deadline:
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._tuning.max_poll_interval)
            preceding, self._deferred.providers = await self.queue.preceding(fetch.sequence)
            self.progress.note_answer()
        if preceding:
            log = logger.bind(queue=self.queue.name)
            log.warning("stopped waiting for an earlier fetch that no worker finishes", fetches=preceding)

    def _is_stalled(self) -> bool:
        return self.progress.is_silent_for(self._tuning.stall_threshold)

    def _report_attempt(self, attempt: RetryCallState) -> None:
        self._report(attempt.outcome.exception() if attempt.outcome else None)

    def _report(self, error: BaseException | None) -> None:
        if isinstance(error, StoreError) and is_refusal(error):
            self.progress.note_refusal(error)
        redis_trouble.log("cannot fetch from the queue", error, of=self.queue.name)
