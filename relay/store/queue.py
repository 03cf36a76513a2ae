"""One of the applications' lists as one worker sees it: take elements without ever losing one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import StoreError
from relay.redis_client.client import TROUBLE, Client, ask, describe, heed_cancellation
from relay.redis_client.connection import Channel
from relay.redis_client.slots import SlotChannel
from relay.redis_client.topology import Topology, is_cluster
from relay.store.keys import LaneKeys, QueueKeys
from relay.store.scripting import script

BATCH = 200
"""Elements that one take hands out, where it is not asked for another number."""

BATCH_BYTES = 1 << 20
"""Bytes after which a batch is full: bounds a worker's memory, whatever lies on the list."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is on a worker's processing list. `preceding` is how many batches of the queue that were taken
    before it are not yet in their lanes; `sequence` is '' if there is nothing. `deferred` are the providers
    with elements that wait for their lanes; `too_large` the sizes of elements that became dead letters."""

    sequence: str
    preceding: int
    elements: Sequence[bytes]
    deferred: frozenset[str] = frozenset()
    too_large: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that is in its lanes: its number, their control hashes, and the field of these that says so.

    `rejected` are its elements that belong to no provider, as (reason, raw bytes): they are filed under the
    queue's name. `deferred` are those whose lanes refuse messages, as (provider, raw bytes).
    """

    sequence: str
    lanes: Sequence[str] = ()
    batch_id: str = ""
    rejected: Sequence[tuple[str, bytes]] = ()
    deferred: Sequence[tuple[str, bytes]] = ()


NOTHING = Done("")

LONGEST_WAITED_FOR = 16 * 1024
"""Bytes of an element that `wait` returns: a longer one stays in Redis until it is taken."""

TOO_LONG = b""
"""Returned by `wait` for an element that is longer than that."""

MOST_RETRIED = 100
"""Elements that waited for a lane and are tried again in one go."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Elements larger than `longest` become dead letters inside Redis: of `provider`, or else of the queue.

    `with_targets` is for an element that may have targets; `max_size` is what the reason shows.
    """

    max_size: int
    longest: int
    with_targets: int
    provider: str | None = None


class Queue:
    """A list and this worker's processing list. Every method raises StoreError."""

    def __init__(
        self, client: Client, prefix: str, name: str, worker: str, limits: Limits | None = None
    ) -> None:
        self.name = name
        self.keys = QueueKeys.of(prefix, name)
        self._client = client
        self._worker = worker
        self.is_beside_lanes = Topology.of(client).is_one
        """Whether one script may use the keys of the queue and those of a lane: not in a cluster."""
        # A wait would hold up whatever else goes over its connection.
        self._waits = (
            Channel(client.connection_pool, longest=LONGEST_WAITED_FOR)
            if not is_cluster(client)
            else SlotChannel(client, name, longest=LONGEST_WAITED_FOR)
        )
        self._limits = limits or Limits(0, 0, 0)
        self._too_large_in = (self.keys.rejected, self.keys.last_sequence)
        self._counts_too_large = self.is_beside_lanes and self._limits.provider is not None
        if self._counts_too_large:
            lane = LaneKeys.of(prefix, str(self._limits.provider))
            self._too_large_in = (lane.part("dead"), lane.part("control"))

    async def wait(self, seconds: float) -> bytes | None:
        """The next element, which is still to be taken; None if none came within `seconds`.

        TOO_LONG for a long one, which does not enter this process's memory.

        The element is moved aside, from where whoever takes next takes first: it keeps its place, and this
        worker may die or be cut off without holding it.
        """
        try:
            element: bytes | None = await self._waits.ask(
                "BLMOVE", self.name, self.keys.staged, "LEFT", "RIGHT", seconds
            )
        except TROUBLE as error:
            raise StoreError(f"BLMOVE {self.name}: {describe(error)}") from error
        except asyncio.CancelledError:
            await self._waits.close()  # Redis hears that nobody waits
            raise
        heed_cancellation()
        return element

    async def take(self, done: Done = NOTHING, *, most: int = BATCH) -> Batch:
        """Forget what is done, and get the next batch of up to `most` elements.

        What is on the processing list and is not just that, or of which a lane no longer has its part after a
        failover, is handed out again first.
        """
        keys = self.keys
        # In a cluster the lanes may lie on other nodes; then replicas are waited for.
        lanes = done.lanes if self.is_beside_lanes else ()
        limits = self._limits
        sequence, preceding, deferred, too_large, *elements = await script("fetch").run(
            self._client,
            (
                self.name,
                keys.staged,
                keys.processing(self._worker),
                keys.sequence(self._worker),
                keys.rejected,
                keys.outstanding,
                keys.last_sequence,
                keys.deferred,
                *self._too_large_in,
                *lanes,
            ),
            self._worker,
            done.sequence,
            most,
            BATCH_BYTES,
            done.batch_id,
            limits.longest,
            limits.with_targets,
            self.name,
            int(self._counts_too_large),
            limits.max_size,
            len(done.rejected),
            *(part for pair in (*done.rejected, *done.deferred) for part in pair),
        )
        lanes_that_refuse = frozenset(name.decode() for name in deferred)
        return Batch(sequence.decode(), preceding, elements, lanes_that_refuse, too_large)

    async def preceding(self, sequence: str) -> int:
        """How many batches that were taken before this one are not yet in their lanes."""
        try:
            return int(await self._client.zcount(self.keys.outstanding, "-inf", f"({sequence}"))
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def requeue(self, worker: str | None = None) -> None:
        """Put what a worker (default: this one) has taken back to the head of the queue."""
        worker = worker or self._worker
        keys = self.keys
        lists = (keys.staged, keys.processing(worker), keys.sequence(worker), keys.outstanding)
        while await script("requeue").run(self._client, lists, worker, BATCH):
            pass

    async def deferred(self, provider: str) -> list[bytes]:
        """The oldest elements that wait for a lane."""
        return list(await self._command("LRANGE", self.keys.deferred_for(provider), 0, MOST_RETRIED - 1))

    async def undefer(self, provider: str) -> bool:
        """Let the oldest element that waits for a lane be taken again like a new one. False if none waits."""
        keys = self.keys
        return bool(await script("undefer").run(self._client, (keys.deferred_for(provider), keys.staged)))

    async def begin_recovery(self, recoverer: str) -> set[str]:
        """Remember that a worker begins to finish this worker's batch; all that have begun so far."""
        key = self.keys.recoverers(self._worker)
        await self._command("HSET", key, recoverer, "")
        return {name.decode() for name in await self._command("HKEYS", key)}

    async def end_recovery(self) -> None:
        """Forget who has tried to finish this worker's batch."""
        await self._command("DEL", self.keys.recoverers(self._worker))

    async def pop_first(
        self, element: bytes, recoverers: Sequence[str], *, reason: str = "", waits_for: str = ""
    ) -> bool:
        """Take the first element off the processing list, because it is in its lane.

        With a `reason` it becomes a dead letter; with `waits_for` it waits for the lane of that provider.
        Returns False if it is no longer the first. `recoverers` have begun to finish the rest.
        """
        keys = self.keys
        lists = (
            keys.processing(self._worker),
            keys.recoverers(self._worker),
            keys.rejected,
            keys.deferred,
            keys.deferred_for(waits_for),
        )
        reply: int = await script("pop_first").run(
            self._client, lists, element, reason, waits_for, *recoverers
        )
        return bool(reply)

    async def _command(self, command: str, *words: str | bytes | int) -> Any:
        try:
            return await ask(self._client, command, *words)
        except TROUBLE as error:
            raise StoreError(f"{command}: {describe(error)}") from error

    async def holders(self) -> list[str]:
        """The workers that have batches out."""
        try:
            names: Any = await self._client.zrange(self.keys.outstanding, 0, -1)
            return [name.decode() for name in names]
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def depth(self, workers: Collection[str] = ()) -> tuple[int, int]:
        """(elements that wait for a worker or for their lane, elements that `workers` have taken)."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.llen(self.name)
                pipe.llen(self.keys.staged)
                for worker in workers:
                    pipe.llen(self.keys.processing(worker))
                pipe.hkeys(self.keys.deferred)
                waiting, staged, *taken, lanes = await pipe.execute()
                for lane in lanes:
                    pipe.llen(self.keys.deferred_for(bytes(lane).decode()))
                deferred = await pipe.execute()
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
        return waiting + staged + sum(deferred), sum(taken)


async def push_all(client: Client, queue: str, elements: Sequence[bytes]) -> int:
    """RPUSH, as an application does; the length of the list afterwards. Raises StoreError."""
    try:
        length = int(await client.execute_command("RPUSH", queue, *elements))
    except TROUBLE as error:
        raise StoreError(f"RPUSH {queue}: {describe(error)}") from error
    heed_cancellation()
    return length
