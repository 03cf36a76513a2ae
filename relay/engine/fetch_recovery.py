"""Enqueues the elements that a dead worker had fetched. Any worker may do it, and may repeat it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from relay.engine.lane_writer import has_fetch, is_lane_refusal, log_lane_refusal
from relay.engine.repeats import thinned
from relay.engine.router import Router, is_any_ordered
from relay.errors import StoreError
from relay.redis_client.replication import Replicas
from relay.store.items import Item
from relay.store.lane import POISON, Lane
from relay.store.queue import Fetch, Queue

_ONE_BY_ONE = "one by one"


@dataclass(frozen=True, slots=True)
class FetchRecovery:
    """Recovers one queue of one dead worker, as that worker sees it. Every method raises StoreError."""

    queue: Queue
    router: Router
    lanes: Mapping[str, Lane]
    replicas: Replicas
    recoverer: str = ""
    """The worker that recovers. Empty: its death would not count."""

    async def recover(self, living: Collection[str] = ()) -> bool:
        """Enqueue all elements. Returns False if earlier fetches must be recovered first.

        A fetch has a number, so a lane that already has its elements ignores them. `living` are the workers
        with a heartbeat. If other recoverers have died, the elements are enqueued one by one.
        """
        deaths = 1
        if self.recoverer:
            started = await self.queue.begin_recovery(self.recoverer)
            deaths += len(started.difference(living, [self.recoverer]))
        fetch = await self.queue.fetch(most=0)
        if deaths > 1 and fetch.elements:
            if fetch.preceding:
                return False
            await self._enqueue_one_by_one(fetch, deaths)
            fetch = Fetch(fetch.sequence, 0, [])
        if not await self._enqueue(fetch):
            return False
        if self.recoverer:
            await self.queue.end_recovery()
        return True

    async def _enqueue(self, fetch: Fetch) -> bool:
        by_lane, rejected = self.router.sort(fetch.elements)
        if fetch.preceding and is_any_ordered(by_lane):
            return False
        refused = set[str]()
        for provider, items in by_lane.items():
            is_blocked = provider in self._blocked(fetch) and not await self._has(provider, fetch.sequence)
            if is_blocked or not await self._lane_accepts(provider, items, fetch.sequence):
                refused.add(provider)
            else:
                await self.lanes[provider].wait_for_replica(self.replicas)
        if fetch.sequence:
            ack = self.router.acknowledge(fetch, by_lane, rejected, refused=refused)
            await self.queue.fetch(ack, most=0)
        return True

    async def _enqueue_one_by_one(self, fetch: Fetch, deaths: int) -> None:
        """Enqueue a fetch that has killed several workers, to find the element that causes it."""
        blocked = set(self._blocked(fetch))
        for index, element in enumerate(fetch.elements):
            reason, waits_for = "", ""
            if deaths >= POISON:
                reason = f"poison: {deaths} workers died while they took it from the queue"
                thinned.log("warning", "dead letter", self.queue.name, reason, filed_under=self.queue.name)
            else:
                # A lane has either the whole fetch, or some of its elements, one by one.
                part = f"{fetch.sequence}/{len(fetch.elements) - index}"
                reason, waits_for = await self._enqueue_one(element, fetch.sequence, part, blocked)
            recoverers = (self.recoverer, _ONE_BY_ONE)
            if not await self.queue.pop_first(element, recoverers, reason=reason, waits_for=waits_for):
                return
            blocked.add(waits_for)
            deaths = 2

    async def _enqueue_one(
        self, element: bytes, sequence: str, part: str, blocked: Collection[str]
    ) -> tuple[str, str]:
        """Return why the element belongs to no lane, and the provider for whose lane it waits.

        `blocked` are providers with earlier elements that wait.
        """
        by_lane, rejected = self.router.sort([element])
        waits_for = ""
        for provider, items in by_lane.items():
            if await self._has(provider, sequence) or await self._has(provider, part):
                continue
            if provider in blocked or not await self._lane_accepts(provider, items, part):
                waits_for = provider
        return rejected[0][0] if rejected else "", waits_for

    def _blocked(self, fetch: Fetch) -> frozenset[str]:
        """Return the providers with earlier elements that wait for their lanes."""
        return fetch.deferred if self.queue.is_beside_lanes else frozenset()

    async def _has(self, provider: str, number: str) -> bool:
        """Return whether a lane has its elements of a fetch, or of a part of it."""
        return await has_fetch(self.queue, self.lanes[provider], number)

    async def _lane_accepts(self, provider: str, items: Sequence[Item], sequence: str) -> bool:
        """Enqueue items. Returns False if only this lane refuses them."""
        try:
            await self.lanes[provider].enqueue(items, self.queue.batch_id, sequence)
        except StoreError as error:
            if not is_lane_refusal(self.queue, error):
                raise
            log_lane_refusal(self.queue, provider, error)
            return False
        return True
