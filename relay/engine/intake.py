"""Queues to lanes: takes elements, makes messages of them, and forgets them once their lanes have them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from relay.engine.repeats import redis_trouble, thinned
from relay.engine.router import Item, Router, is_ordered
from relay.errors import StoreError
from relay.redis_client.client import is_about_keys, is_refusal
from relay.redis_client.replication import Replicas
from relay.store.lane import POISON, Enqueued, Lane, Malformed, Refusal
from relay.store.queue import BATCH, LONGEST_WAITED_FOR, MOST_RETRIED, NOTHING, Batch, Done, Queue

WAIT = 5.0
"""Seconds of one blocking wait for an element."""

WAITS = 3
"""Waits in vain after which a look is taken all the same: who waited beside us may have died and left what it
had moved aside."""

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

RETRY_DEFERRED = 1.0
"""Seconds between two attempts to put elements into a lane that refuses messages."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refused:
    """The error by which Redis refuses a queue, and its first time in monotonic seconds."""

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
        self.batch_id = batch_id_of(worker, queue.name)
        self._on_arrival = on_arrival
        self._on_ready = on_ready
        self._on_letters = on_letters
        self._log = logger.bind(queue=queue.name)
        self._done = NOTHING
        self.answered = time.monotonic()
        """When Redis last answered, also by a refusal, in monotonic seconds."""
        self.refused: Refused | None = None
        """Set from the first refusal by Redis until elements move or a wait for them ends again."""
        self.taken = 0
        """Elements that came from the queue so far."""
        self.waiting = False
        """Whether this is a blocking wait for the next element."""
        self._most = BATCH
        self._plenty = False
        self._deferred: frozenset[str] = frozenset()
        self._retry_at = 0.0

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
        await self._retry_deferred()
        batch = await self._take(self._most)
        if batch.elements or batch.too_large:
            await self._handle(batch)
            self.refused = None
            if self._plenty:
                await self._give_way(GIVE_WAY * (time.monotonic() - began))
            return
        in_vain = 0
        while in_vain < WAITS:
            element = await self._wait(self._patience())
            if element is None:
                in_vain = WAITS if self._deferred else in_vain + 1
            elif not await self._pass_on(element):
                return

    def _patience(self) -> float:
        """Seconds to wait for an element."""
        if not self._deferred:
            return WAIT
        return max(LONGEST_DELAY, min(RETRY_DEFERRED, self._retry_at - time.monotonic()))

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
        """Enqueue a single element directly. Returns False if it must go through a batch."""
        if not self.queue.is_beside_lanes or len(element) > LONGEST_WAITED_FOR:
            return False
        provider, item = self.router.route(element)
        if provider is None or isinstance(item, Malformed) or provider in self._deferred:
            return False
        in_order = is_ordered({provider: [item]})
        self._on_arrival(provider)
        try:
            enqueued = await self._lanes[provider].enqueue_direct(
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
        self._deferred = batch.deferred
        self._heard()
        for size in batch.too_large:
            reason = f"too large: {size} bytes"
            thinned.log("warning", "dead letter", self.queue.name, reason, filed_under=self.queue.name)
        return batch

    async def _handle(self, batch: Batch) -> None:
        if self._was_frozen():
            # Others may have taken this worker for dead, and the batch with it.
            return
        by_lane, rejected = self.router.sort(batch.elements)
        if batch.preceding and is_ordered(by_lane):
            await self._earlier_first(batch)
        self._plenty = len(batch.elements) >= self._most
        self._most = min(max(BATCH, FOR_EACH_LANE * len(by_lane)), LARGEST_BATCH)
        # Elements of one lane keep their order: behind those that wait for it.
        waits = self._deferred.intersection(by_lane) if self.queue.is_beside_lanes else frozenset()
        free = {provider: items for provider, items in by_lane.items() if provider not in waits}
        refused = waits | await self._enqueue_all(free, batch.sequence)
        taken = [provider for provider in by_lane if provider not in refused]
        deferred = self.router.select(batch.elements, refused)
        self._done = done_with(batch, taken, rejected, self._lanes, self.batch_id, deferred)

    async def _earlier_first(self, batch: Batch) -> None:
        """Return when what was taken before this batch, by whomever, is in its lanes."""
        preceding, delay, deadline = batch.preceding, 0.001, time.monotonic() + PATIENCE
        while preceding and time.monotonic() < deadline:
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)
            preceding = await self.queue.preceding(batch.sequence)
            self._heard()
        if preceding:
            self._log.warning(
                "stopped waiting for an earlier batch that no worker finishes", batches=preceding
            )

    async def _enqueue_all(self, by_lane: Mapping[str, Sequence[Item]], number: str) -> frozenset[str]:
        """Put a batch into its lanes; those that refuse it, while others may take it."""
        if len(by_lane) == 1:
            # Without a task of its own, of which a message of a backlog would have its share.
            ((provider, items),) = by_lane.items()
            try:
                await self._enqueue(provider, items, number)
            except StoreError as error:
                if not refuses(self.queue, error):
                    raise
                report_refusal(self.queue, provider, error)
                return frozenset(by_lane)
            return frozenset()
        results = await asyncio.gather(
            *(self._enqueue(provider, items, number) for provider, items in by_lane.items()),
            return_exceptions=True,
        )
        # None of them goes on behind our back.
        refused = []
        for provider, result in zip(by_lane, results, strict=True):
            if isinstance(result, StoreError) and refuses(self.queue, result):
                report_refusal(self.queue, provider, result)
                refused.append(provider)
            elif isinstance(result, BaseException):
                raise result
        return frozenset(refused)

    async def _retry_deferred(self) -> None:
        """Put some deferred elements into their lanes, in their order, if these take messages again."""
        if not self._deferred or time.monotonic() < self._retry_at:
            return
        pause = RETRY_DEFERRED
        for provider in sorted(self._deferred):
            try:
                if self.queue.is_beside_lanes:
                    for element in await self.queue.deferred(provider):
                        await self._enqueue_deferred(provider, element)
                        pause = 0.0
                elif await self._undefer(provider):
                    pause = 0.0
            except StoreError as error:
                if not is_refusal(error):
                    raise
                report_refusal(self.queue, provider, error)
        self._heard()
        self._retry_at = time.monotonic() + pause

    async def _undefer(self, provider: str) -> int:
        """Let some elements be taken again like new ones: in a cluster no script reaches queue and lane."""
        if provider in self._lanes:
            await self._lanes[provider].check_keys()
        number = 0
        while number < MOST_RETRIED and await self.queue.undefer(provider):
            number += 1
        return number

    async def _enqueue_deferred(self, waits_for: str, element: bytes) -> None:
        provider, item = self.router.route(element)
        if provider != waits_for or isinstance(item, Refusal):
            await self.queue.undefer(waits_for)  # the configuration has changed
            return
        enqueued = await self._lanes[provider].enqueue_direct(
            item, self.queue.keys, element, in_order=False, deferred=True
        )
        if enqueued is not None:
            self._tell(provider, enqueued)

    async def _enqueue(self, provider: str, items: Sequence[Item], sequence: str) -> None:
        lane = self._lanes[provider]
        if self.queue.is_beside_lanes:
            # One connection: the claim comes right behind.
            self._on_arrival(provider)
        enqueued = await lane.enqueue(items, self.batch_id, sequence)
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
        redis_trouble.log("cannot fetch from the queue", error, of=self.queue.name)


async def finish_batch(
    queue: Queue,
    router: Router,
    lanes: Mapping[str, Lane],
    worker: str,
    replicas: Replicas,
    recoverer: str = "",
    living: Collection[str] = (),
) -> bool:
    """Put what a worker had taken when it died into the lanes.

    Returns False if that has to wait until what was taken earlier is there. A lane that already has its part
    of the batch takes nothing twice: the batch has a number. May be repeated, by anybody. `queue` is that
    worker's view. `recoverer` is the worker that does it, `living` are those whose heart beats: if others
    have died while they finished the batch, its elements are handled one by one. Raises StoreError.
    """
    deaths = 1
    if recoverer:
        deaths += len((await queue.begin_recovery(recoverer)).difference(living, [recoverer]))
    batch = await queue.take(most=0)
    batch_id = batch_id_of(worker, queue.name)
    if deaths > 1 and batch.elements:
        if batch.preceding:
            return False
        await _finish_one_by_one(queue, router, lanes, batch, batch_id, recoverer, deaths)
        batch = Batch(batch.sequence, 0, [])
    by_lane, rejected = router.sort(batch.elements)
    if batch.preceding and is_ordered(by_lane):
        return False
    taken, refused = [], set[str]()
    for provider, items in by_lane.items():
        if provider in batch.deferred and queue.is_beside_lanes:
            refused.add(provider)
        elif await _takes(queue, lanes[provider], items, batch_id, batch.sequence):
            await replicas.follow(lanes[provider].keys.replicated)
            taken.append(provider)
        else:
            refused.add(provider)
    if batch.sequence:
        deferred = router.select(batch.elements, refused)
        await queue.take(done_with(batch, taken, rejected, lanes, batch_id, deferred), most=0)
    if recoverer:
        await queue.end_recovery()
    return True


async def _finish_one_by_one(
    queue: Queue,
    router: Router,
    lanes: Mapping[str, Lane],
    batch: Batch,
    batch_id: str,
    recoverer: str,
    deaths: int,
) -> None:
    """Finish a batch that has killed more than one worker, so that the guilty element can be told apart."""
    for index, element in enumerate(batch.elements):
        reason, waits_for = "", ""
        if deaths >= POISON:
            reason = f"poison: {deaths} workers died while they took it from the queue"
            thinned.log("warning", "dead letter", queue.name, reason, filed_under=queue.name)
        else:
            by_lane, rejected = router.sort([element])
            reason = rejected[0][0] if rejected else ""
            for provider, items in by_lane.items():
                # A lane has either all of the batch, or elements of it that were handled one by one.
                sequence = f"{batch.sequence}/{len(batch.elements) - index}"
                lane = lanes[provider]
                if await lane.has_batch(batch_id, batch.sequence):
                    continue
                if not await _takes(queue, lane, items, batch_id, sequence):
                    waits_for = provider
        recoverers = (recoverer, "one by one")
        if not await queue.pop_first(element, recoverers, reason=reason, waits_for=waits_for):
            return
        deaths = 2


async def _takes(queue: Queue, lane: Lane, items: Sequence[Item], batch_id: str, sequence: str) -> bool:
    """Put a part of a batch into its lane; False if the lane refuses it while others may take theirs."""
    try:
        await lane.enqueue(items, batch_id, sequence)
    except StoreError as error:
        if not refuses(queue, error):
            raise
        report_refusal(queue, lane.provider, error)
        return False
    return True


def refuses(queue: Queue, error: StoreError) -> bool:
    """Whether the elements of a lane that answers so should wait for it, while other lanes go on.

    If Redis refuses everything, the batch stays on the processing list, because `take` fails as well. In a
    cluster the node of the lane alone may be in trouble, which passes: there the elements wait for keys only.
    """
    return is_refusal(error) if queue.is_beside_lanes else is_about_keys(error)


def report_refusal(queue: Queue, provider: str, error: StoreError) -> None:
    """Log that elements wait for a lane."""
    about = {"provider": provider, "queue": queue.name}
    thinned.log("warning", "a lane refuses messages; they wait", provider, str(error), **about)


def done_with(
    batch: Batch,
    by_lane: Iterable[str],
    rejected: Sequence[tuple[str, bytes]],
    lanes: Mapping[str, Lane],
    batch_id: str,
    deferred: Sequence[tuple[str, bytes]] = (),
) -> Done:
    """The batch that a queue may delete if these lanes have it."""
    controls = [lanes[provider].keys.part("control") for provider in by_lane]
    return Done(batch.sequence, controls, batch_id, rejected, deferred)


def batch_id_of(worker: str, queue: str) -> str:
    """The field of a lane's control hash that remembers a worker's last batch from a queue."""
    return f"batch:{worker}:{queue}"
