"""One of the applications' lists as one worker sees it: take elements without ever losing one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from relay.errors import StoreError
from relay.store.channel import Channel
from relay.store.keys import QueueKeys
from relay.store.scripting import TROUBLE, Client, describe, heed_cancellation, script

BATCH = 200
"""Elements that one take hands out, where it is not asked for another number."""

BATCH_BYTES = 1 << 20
"""Bytes after which a batch is full: bounds a worker's memory, whatever lies on the list."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is on a worker's processing list. `earlier` is how many batches of the queue that were taken
    before it are not yet in their lanes; `number` is '' where there is nothing."""

    number: str
    earlier: int
    elements: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that is in its lanes: its number, their control hashes, and the field of these that says so.

    `rejected` are its elements that belong to no provider, as (reason, raw bytes): they are filed under the
    queue's name.
    """

    number: str
    lanes: Sequence[str] = ()
    mark: str = ""
    rejected: Sequence[tuple[str, bytes]] = ()


NOTHING = Done("")


class Queue:
    """A list and this worker's processing list. Every method raises StoreError."""

    def __init__(self, client: Client, prefix: str, name: str, worker: str) -> None:
        self.name = name
        self.keys = QueueKeys.of(prefix, name)
        self._client = client
        self._worker = worker
        self.is_beside_lanes = isinstance(client, Redis)
        """Whether one script may use the keys of the queue and those of a lane: not in a cluster."""
        # A wait would hold up whatever else goes over its connection.
        self._waits = Channel(client) if isinstance(client, Redis) else None

    async def wait(self, seconds: float) -> bytes | None:
        """The next element, which is still to be taken; None if none came within `seconds`.

        The element is moved aside, from where whoever takes next takes first: it keeps its place, and this
        worker may die or be cut off without holding it.
        """
        ask = self._client.execute_command if self._waits is None else self._waits.ask
        try:
            element: bytes | None = await ask("BLMOVE", self.name, self.keys.staged, "LEFT", "RIGHT", seconds)
        except TROUBLE as error:
            raise StoreError(f"BLMOVE {self.name}: {describe(error)}") from error
        except asyncio.CancelledError:
            if self._waits is not None:
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
        lanes = done.lanes if isinstance(self._client, Redis) else ()
        number, earlier, *elements = await script("take").run(
            self._client,
            (
                self.name,
                keys.staged,
                keys.processing(self._worker),
                keys.number(self._worker),
                keys.rejected,
                keys.out,
                keys.last,
                *lanes,
            ),
            self._worker,
            done.number,
            most,
            BATCH_BYTES,
            done.mark,
            *(part for pair in done.rejected for part in pair),
        )
        return Batch(number.decode(), earlier, elements)

    async def earlier(self, number: str) -> int:
        """How many batches that were taken before this one are not yet in their lanes."""
        try:
            return int(await self._client.zcount(self.keys.out, "-inf", f"({number}"))
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def give_back(self, worker: str | None = None) -> None:
        """Put what a worker (default: this one) has taken back to the head of the queue."""
        worker = worker or self._worker
        keys = self.keys
        lists = (keys.staged, keys.processing(worker), keys.number(worker), keys.out)
        while await script("give_back").run(self._client, lists, worker, BATCH):
            pass

    async def holders(self) -> list[str]:
        """The workers that have batches out."""
        try:
            names: Any = await self._client.zrange(self.keys.out, 0, -1)
            return [name.decode() for name in names]
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def depth(self, workers: Collection[str] = ()) -> tuple[int, int]:
        """(elements that nobody has taken, elements that `workers` have taken and not yet put into lanes)."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.llen(self.name)
                pipe.llen(self.keys.staged)
                for worker in workers:
                    pipe.llen(self.keys.processing(worker))
                waiting, staged, *taken = await pipe.execute()
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
        return waiting + staged, sum(taken)


async def push_all(client: Client, queue: str, elements: Sequence[bytes]) -> int:
    """RPUSH, as an application does; the length of the list afterwards. Raises StoreError."""
    try:
        length = int(await client.execute_command("RPUSH", queue, *elements))
    except TROUBLE as error:
        raise StoreError(f"RPUSH {queue}: {describe(error)}") from error
    heed_cancellation()
    return length
