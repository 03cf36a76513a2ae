"""One of the applications' lists as one worker sees it: take elements without ever losing one."""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import StoreError
from relay.store.keys import QueueKeys
from relay.store.scripting import TROUBLE, Client, describe, heed_cancellation, script

BATCH = 200
"""Elements that one take hands out at most."""

BATCH_BYTES = 1 << 20
"""Bytes after which a batch is full: bounds a worker's memory, whatever lies on the list."""


class Queue:
    """A list and this worker's processing list. Every method raises StoreError."""

    def __init__(self, client: Client, prefix: str, name: str, worker: str) -> None:
        self.name = name
        self.keys = QueueKeys.of(prefix, name)
        self._client = client
        self._worker = worker
        self._processing = self.keys.processing(worker)
        self._turn = self.keys.turn(worker)

    async def wait(self, seconds: float) -> bytes | None:
        """The next element, moved to the processing list; None if none came within `seconds`."""
        try:
            element: bytes | None = await self._client.execute_command(
                "BLMOVE", self.name, self._processing, "LEFT", "RIGHT", seconds
            )
        except TROUBLE as error:
            raise StoreError(f"BLMOVE {self.name}: {describe(error)}") from error
        heed_cancellation()
        return element

    async def take(
        self,
        turn: int,
        previous: int = 0,
        done: int = 0,
        rejected: Sequence[tuple[str, bytes]] = (),
        *,
        most: int = BATCH,
    ) -> list[bytes]:
        """Forget the `done` elements of the turn `previous`, and get the next batch of up to `most`.

        Where the processing list holds anything else, nothing is forgotten, and it is that batch.
        `rejected` are those that belong to no provider, as (reason, raw bytes): they are filed under the
        queue's name. Repeating a call with the same `turn` changes nothing.
        """
        words = [part for pair in rejected for part in pair]
        batch: list[bytes] = await script("take").run(
            self._client,
            (self.name, self._processing, self._turn, self.keys.rejected),
            turn,
            previous,
            done,
            most,
            BATCH_BYTES,
            *words,
        )
        return batch

    async def give_back(self, worker: str | None = None) -> None:
        """Put what a worker (default: this one) has taken back to the head of the list."""
        worker = worker or self._worker
        keys = (self.name, self.keys.processing(worker), self.keys.turn(worker))
        while await script("give_back").run(self._client, keys, BATCH):
            pass

    async def left(self) -> tuple[int, list[bytes]]:
        """What this worker has taken and not forgotten: (number of that batch, its elements)."""
        try:
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.get(self._turn)
                pipe.lrange(self._processing, 0, -1)
                turn, elements = await pipe.execute()
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
        return int(turn or 0), elements

    async def forget(self) -> None:
        """Drop this worker's turn: it takes no more."""
        try:
            await self._client.delete(self._turn)
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def taken(self, workers: Sequence[str]) -> list[int]:
        """How many elements each of these workers has taken and not yet put into lanes."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for worker in workers:
                    pipe.llen(self.keys.processing(worker))
                return list(await pipe.execute())
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def depth(self, workers: Sequence[str]) -> tuple[int, int]:
        """(elements on the list, elements that `workers` have taken and not yet put into lanes)."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.llen(self.name)
                for worker in workers:
                    pipe.llen(self.keys.processing(worker))
                waiting, *taken = await pipe.execute()
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
        return waiting, sum(taken)


async def push_all(client: Client, queue: str, elements: Sequence[bytes]) -> int:
    """RPUSH, as an application does; the length of the list afterwards. Raises StoreError."""
    try:
        return int(await client.execute_command("RPUSH", queue, *elements))
    except TROUBLE as error:
        raise StoreError(f"RPUSH {queue}: {describe(error)}") from error
