"""Queues to lanes: takes elements, makes messages of them, and forgets them once their lanes have them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from relay.errors import StoreError
from relay.router import Item, Router, is_ordered
from relay.store.lane import Enqueued, Lane, Malformed
from relay.store.queue import BATCH, NOTHING, Batch, Done, Queue
from relay.store.replication import Replicas
from relay.store.scripting import is_refusal

WAIT = 5.0
"""Seconds of one blocking wait for an element."""

WAITS = 3
"""Waits in vain after which a look is taken all the same: who waited beside us may have died and left what it
had moved aside."""

STRAIGHT_SIZE = 16 * 1024
"""Bytes that an element may have which comes alone, to go straight into its lane."""

FEW = 1
"""Elements that may be left in the queue, for the next one to come alone: more are a batch."""

FOR_EACH_LANE, LARGEST_BATCH = 10, 400
"""Elements to take for each lane that the last batch went into, as a script for one message costs almost as
much as one for ten; and the most of a batch, which bounds a worker's memory."""

PLENTY, GIVE_WAY = 10_000, 2.0
"""Messages that may go in each lane of a full batch, from which on an intake leaves senders so many times
as long as it took itself: a long backlog would take half of their time."""

PAUSE = 0.5
"""Seconds after a refusal before Redis is asked again."""

FROZEN = 1.0
"""Seconds without an answer after which Redis may have been replaced behind our back."""

PATIENCE = 30.0
"""Seconds to wait for an earlier batch: a dead worker's is finished by others long before."""

LONGEST_DELAY = 0.05
"""Seconds between two looks whether it is."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refused:
    """What Redis says no to, and since when in monotonic seconds."""

    since: float
    text: str


class Intake:
    """The loop of one queue in one process.

    What Redis says is on the processing list is the truth: after any trouble the loop takes it again and goes
    on from there. An answer may have been lost, or a failover may have undone what was answered.
    """

    def __init__(
        self,
        queue: Queue,
        router: Router,
        lanes: Mapping[str, Lane],
        *,
        worker: str,
        replicas: Replicas,
        on_arrival: Callable[[str], None],
        on_ready: Callable[[str, int], None],
        on_letters: Callable[[str], None],
    ) -> None:
        """`on_arrival` hears the provider into whose lane something comes before any script runs that is
        asked for later; `on_ready` how many messages in it then may go; `on_letters` the provider when there
        are receipts in its outbox."""
        self.queue = queue
        self.router = router
        self._lanes = lanes
        self._replicas = replicas
        self.mark = batch_mark(worker, queue.name)
        self._on_arrival = on_arrival
        self._on_ready = on_ready
        self._on_letters = on_letters
        self._log = logger.bind(queue=queue.name)
        self._done = NOTHING
        self.answered = time.monotonic()
        """When Redis last answered, be it by a refusal, in monotonic seconds."""
        self.refused: Refused | None = None
        """Set from the first refusal by Redis until elements move or a wait for them ends again."""
        self.taken = 0
        """Elements that came from the queue so far."""
        self.waiting = False
        """Whether this is a blocking wait for the next element."""
        self._most = BATCH
        self._plenty = False

    async def run(self) -> None:
        """Move elements until cancelled. What was taken and not moved stays on the processing list."""
        forever = AsyncRetrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            before_sleep=lambda state: self._report(state.outcome.exception() if state.outcome else None),
        )
        while True:
            try:
                while True:
                    await self._advance()
            except StoreError as error:
                self._report(error)
                await asyncio.sleep(PAUSE)
                await forever(self._advance)

    async def finish(self) -> None:
        """Once `run` is cancelled: put into the lanes what it had taken. Raises StoreError."""
        batch = await self.queue.take(most=0)
        self._heard()
        if batch.elements:
            await self._handle(batch)
            await self.queue.take(self._done, most=0)

    async def _advance(self) -> None:
        """One batch, or a wait for one. What comes alone meanwhile needs none."""
        began = time.monotonic()
        batch = await self._take(self._most)
        if batch.elements:
            await self._handle(batch)
            self.refused = None
            if self._plenty:
                await self._give_way(GIVE_WAY * (time.monotonic() - began))
            return
        in_vain = 0
        while in_vain < WAITS:
            element = await self._wait(WAIT)
            if element is None:
                in_vain += 1
            elif not await self._pass_on(element):
                return

    async def _wait(self, seconds: float) -> bytes | None:
        """The element that came."""
        self.waiting = True
        try:
            element = await self.queue.wait(seconds)
        finally:
            self.waiting = False
        self._heard()
        self.refused = None
        return element

    async def _pass_on(self, element: bytes) -> bool:
        """Put what came alone straight into its lane; False where there is a batch to take, be it of one."""
        if not self.queue.is_beside_lanes or len(element) > STRAIGHT_SIZE:
            return False
        provider, item = self.router.route(element)
        if provider is None or isinstance(item, Malformed):
            return False
        in_order = is_ordered({provider: [item]})
        self._on_arrival(provider)
        try:
            enqueued = await self._lanes[provider].enqueue_straight(
                item, self.queue.keys, element, in_order=in_order
            )
        except StoreError:
            # It may be in its lane by now, and no batch will say so.
            self._on_arrival(provider)
            raise
        self._heard()
        if enqueued is None:
            return False
        self.taken += 1
        self._tell(provider, enqueued)
        return enqueued.left <= FEW

    async def _give_way(self, seconds: float) -> None:
        """Leave the time to senders, and hold nothing meanwhile: others may wait for what was taken."""
        left = await self._take(0)
        if not left.elements:
            await asyncio.sleep(seconds)

    async def _take(self, most: int) -> Batch:
        done, self._done = self._done, NOTHING
        if self._was_frozen():
            # What Redis answered then may be undone.
            done = NOTHING
        batch = await self.queue.take(done, most=most)
        self.taken += len(batch.elements)
        self._heard()
        return batch

    async def _handle(self, batch: Batch) -> None:
        if self._was_frozen():
            # Others may have taken this worker for dead, and the batch with it.
            return
        by_lane, rejected = self.router.sort(batch.elements)
        if batch.earlier and is_ordered(by_lane):
            await self._earlier_first(batch)
        self._plenty = len(batch.elements) >= self._most
        self._most = min(max(BATCH, FOR_EACH_LANE * len(by_lane)), LARGEST_BATCH)
        await self._enqueue_all(by_lane, batch.number)
        self._done = done_with(batch, by_lane, rejected, self._lanes, self.mark)

    async def _earlier_first(self, batch: Batch) -> None:
        """Return when what was taken before this batch, by whomever, is in its lanes."""
        earlier, delay, deadline = batch.earlier, 0.001, time.monotonic() + PATIENCE
        while earlier and time.monotonic() < deadline:
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)
            earlier = await self.queue.earlier(batch.number)
            self._heard()
        if earlier:
            self._log.warning("went ahead of an earlier batch that nobody finishes", batches=earlier)

    async def _enqueue_all(self, by_lane: Mapping[str, Sequence[Item]], number: str) -> None:
        if len(by_lane) == 1:
            ((provider, items),) = by_lane.items()
            await self._enqueue(provider, items, number)
            return
        results = await asyncio.gather(
            *(self._enqueue(provider, items, number) for provider, items in by_lane.items()),
            return_exceptions=True,
        )
        # None of them goes on behind our back.
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _enqueue(self, provider: str, items: Sequence[Item], number: str) -> None:
        lane = self._lanes[provider]
        if self.queue.is_beside_lanes:
            # One connection: the claim comes right behind.
            self._on_arrival(provider)
        enqueued = await lane.enqueue(items, self.mark, number)
        await self._replicas.follow(lane.keys.replicated)
        self._heard()
        self._plenty = self._plenty and enqueued.ready > PLENTY
        self._tell(provider, enqueued)

    def _tell(self, provider: str, enqueued: Enqueued) -> None:
        if not enqueued.in_turn:
            self._on_arrival(provider)
        if enqueued.letters:
            self._on_letters(provider)
        self._on_ready(provider, enqueued.ready)

    def _was_frozen(self) -> bool:
        return time.monotonic() - self.answered > FROZEN

    def _heard(self) -> None:
        self.answered = time.monotonic()

    def _report(self, error: BaseException | None) -> None:
        if isinstance(error, StoreError) and is_refusal(error):
            self._heard()
            since = self.refused.since if self.refused else time.monotonic()
            self.refused = Refused(since, str(error))
        self._log.warning("Redis is in trouble", error=str(error))


async def finish_batch(
    queue: Queue, router: Router, lanes: Mapping[str, Lane], worker: str, replicas: Replicas
) -> bool:
    """Put what a worker had taken when it died into the lanes.

    False where that has to wait until what was taken earlier is there. A lane that already has its part of
    the batch takes nothing twice: the batch has a number. May be repeated, by anybody. `queue` is that
    worker's view. Raises StoreError.
    """
    batch = await queue.take(most=0)
    by_lane, rejected = router.sort(batch.elements)
    if batch.earlier and is_ordered(by_lane):
        return False
    for provider, items in by_lane.items():
        await lanes[provider].enqueue(items, batch_mark(worker, queue.name), batch.number)
        await replicas.follow(lanes[provider].keys.replicated)
    if batch.elements:
        mark = batch_mark(worker, queue.name)
        await queue.take(done_with(batch, by_lane, rejected, lanes, mark), most=0)
    return True


def done_with(
    batch: Batch,
    by_lane: Iterable[str],
    rejected: Sequence[tuple[str, bytes]],
    lanes: Mapping[str, Lane],
    mark: str,
) -> Done:
    """What a queue may forget, as long as these lanes have it."""
    controls = [lanes[provider].keys.part("control") for provider in by_lane]
    return Done(batch.number, controls, mark, rejected)


def batch_mark(worker: str, queue: str) -> str:
    """The field of a lane's control hash that remembers a worker's last batch from a queue."""
    return f"batch:{worker}:{queue}"
