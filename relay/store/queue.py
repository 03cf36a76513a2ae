"""One of the applications' lists, for one worker: fetch, acknowledge and requeue elements."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import msgspec

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute, raise_if_cancelled
from relay.redis_client.topology import Topology
from relay.store.keys import LaneKeys, QueueKeys, batch_id_of, control_key
from relay.store.large_fetches import LargeFetches
from relay.store.reading import Command, may_exist, read_all
from relay.store.scripting import script
from relay.store.waits import Waits

_pack = msgspec.msgpack.Encoder().encode

FETCH_SIZE = 200
"""Default for the most elements of a fetch."""

FETCH_BYTES = 1 << 20
"""Maximum bytes of a fetch, which limits a worker's memory."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """The elements on a worker's processing list."""

    sequence: str
    """The number of this fetch; empty if there are no elements."""
    preceding: int
    """Earlier fetches of the queue, by any worker, that are not acknowledged yet."""
    elements: Sequence[bytes]
    deferred: frozenset[str] = frozenset()
    """Providers with elements that wait for their lanes."""
    too_large: Sequence[int] = ()
    """Sizes of elements that became dead letters inside Redis."""


@dataclass(frozen=True, slots=True)
class Ack:
    """A fetch whose elements are all enqueued, so that the queue may delete it."""

    sequence: str
    providers: Sequence[str] = ()
    """The lanes that got its elements."""
    rejected: Sequence[tuple[str, bytes]] = ()
    """Elements that belong to no provider, as (reason, raw bytes): dead letters of the queue."""
    deferred: Sequence[tuple[str, bytes]] = ()
    """Elements whose lanes refuse messages, as (provider, raw bytes)."""


NO_ACK = Ack("")

MAX_RETRIED = 100
"""Number of deferred elements that are retried in one step."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Size limits. Elements larger than `longest` become dead letters inside Redis, of `provider` or else of
    the queue.

    `with_targets` applies to an element that may have targets. The reason mentions `max_size`.
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
        self.batch_id = batch_id_of(worker, name)
        self._client = client
        self._prefix = prefix
        self._worker = worker
        self.is_beside_lanes = Topology.of(client).is_one
        """Whether one script may use the keys of the queue and those of a lane: not in a cluster."""
        self._large = LargeFetches(client, self.keys, worker, self.batch_id, FETCH_BYTES)
        self.waits = Waits(client, self.keys)
        limits = limits or Limits(0, 0, 0)
        self._too_large_in = (self.keys.rejected, self.keys.last_sequence)
        counts_too_large = self.is_beside_lanes and limits.provider is not None
        if counts_too_large:
            lane = LaneKeys.of(prefix, str(limits.provider))
            self._too_large_in = (lane.part("dead"), lane.part("control"))
        self._longest = limits.longest
        self._limits = _pack(
            {
                "with_targets": limits.with_targets,
                "max_size": limits.max_size,
                "queue": name,
                "counts": counts_too_large,
            }
        )

    async def fetch(self, ack: Ack = NO_ACK, *, most: int = FETCH_SIZE) -> Fetch:
        """Delete the acknowledged fetch, and return the next one of up to `most` elements.

        Elements on the processing list come first, unless they are acknowledged and every lane still has its
        part of them after a failover.
        """
        keys = self.keys
        self.waits.forget()
        # In a cluster, lanes may be on other nodes, so the intake waits for replicas instead.
        providers = ack.providers if self.is_beside_lanes else ()
        controls = [control_key(self._prefix, provider) for provider in providers]
        if self._large.expected and most and not ack.rejected and not ack.deferred:
            found = await self._large.fetch(ack.sequence, controls, most)
            if found is not None:
                return Fetch(*found)
        sequence, preceding, deferred, sizes, *elements = await script("fetch").run(
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
                *controls,
            ),
            self._worker,
            ack.sequence,
            most,
            FETCH_BYTES,
            self._longest,
            self._limits,
            *self._details(ack),
        )
        self._large.note(elements)
        names = frozenset(name.decode() for name in deferred or ())
        return Fetch(sequence.decode(), preceding, elements, names, sizes or ())

    def _details(self, ack: Ack) -> Sequence[str | bytes | int]:
        """Return the last arguments of `fetch.lua`, as far as it needs them."""
        if ack.rejected or ack.deferred:
            elements = (part for pair in (*ack.rejected, *ack.deferred) for part in pair)
            return (self.batch_id, len(ack.rejected), *elements)
        return (self.batch_id,) if ack.providers else ()

    async def preceding(self, sequence: str) -> tuple[int, frozenset[str]]:
        """Return the number of earlier fetches that are not acknowledged yet, and the providers with elements
        that wait for their lanes.

        An acknowledgement may defer elements, so the second is read after the first: at 0, all elements of
        earlier fetches are in their lanes, or their providers are returned.
        """
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.zcount(self.keys.outstanding, "-inf", f"({sequence}")
                pipe.hkeys(self.keys.deferred)
                number, names = await pipe.execute()
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error
        return int(number), frozenset(name.decode() for name in names)

    async def requeue(self, worker: str | None = None) -> None:
        """Return the elements that a worker (default: this one) has fetched to the head of the queue."""
        worker = worker or self._worker
        keys = self.keys
        lists = (keys.staged, keys.processing(worker), keys.sequence(worker), keys.outstanding)
        while await script("requeue").run(self._client, lists, worker, FETCH_SIZE):
            pass

    async def deferred(self, provider: str) -> list[bytes]:
        """Return the oldest elements that wait for a lane."""
        return list(await self._command("LRANGE", self.keys.deferred_for(provider), 0, MAX_RETRIED - 1))

    async def undefer(self, provider: str) -> bool:
        """Queue the oldest element that waits for a lane like a new one. Returns False if none waits."""
        keys = self.keys
        return bool(await script("undefer").run(self._client, (keys.deferred_for(provider), keys.staged)))

    async def begin_recovery(self, recoverer: str) -> set[str]:
        """Record that a worker has started to recover this worker's fetch. Returns all that have."""
        key = self.keys.recoverers(self._worker)
        await self._command("HSET", key, recoverer, "")
        return {name.decode() for name in await self._command("HKEYS", key)}

    async def end_recovery(self) -> None:
        """Delete the list of workers that have started to recover this worker's fetch."""
        await self._command("DEL", self.keys.recoverers(self._worker))

    async def pop_first(
        self, element: bytes, recoverers: Sequence[str], *, reason: str = "", waits_for: str = ""
    ) -> bool:
        """Remove the first element from the processing list, because it is in its lane.

        With a `reason` it becomes a dead letter; with `waits_for` it waits for the lane of that provider.
        Returns False if it is no longer the first. `recoverers` are the workers that have started to recover
        the rest.
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
            return await execute(self._client, command, *words)
        except REDIS_ERRORS as error:
            raise StoreError(f"{command}: {describe(error)}") from error

    async def holders(self) -> list[str]:
        """Return the workers with fetches that are not acknowledged yet."""
        try:
            names: Any = await self._client.zrange(self.keys.outstanding, 0, -1)
            return [name.decode() for name in names]
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error

    async def depth(self, workers: Collection[str] = ()) -> tuple[int, int]:
        """Return the number of elements that wait for a worker or a lane, and of those that `workers` have
        fetched."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.llen(self.name)
                pipe.llen(self.keys.staged)
                for worker in workers:
                    pipe.llen(self.keys.processing(worker))
                pipe.hkeys(self.keys.deferred)
                waiting, staged, *fetched, lanes = await pipe.execute()
                for lane in lanes:
                    pipe.llen(self.keys.deferred_for(bytes(lane).decode()))
                deferred = await pipe.execute()
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error
        return waiting + staged + sum(deferred), sum(fetched)


async def have_elements(client: Client, queues: Sequence[Queue]) -> list[bool | None]:
    """Return for each queue whether elements wait for a worker or a lane; None if it cannot be read.

    At most two round trips for all. Raises StoreError if Redis cannot be reached.
    """
    rows = [(queue.keys.queue, queue.keys.staged, queue.keys.deferred) for queue in queues]
    replies = await _read_existing(client, rows, [("EXISTS", *row) for row in rows], 0)
    return [None if reply is None else reply > 0 for reply in replies]


async def holders_of(client: Client, prefix: str, names: Sequence[str]) -> list[list[str] | None]:
    """Return for each queue what `Queue.holders` returns; None if it cannot be read.

    At most two round trips for all. Raises StoreError if Redis cannot be reached.
    """
    keys = [QueueKeys.of(prefix, name).outstanding for name in names]
    replies = await _read_existing(
        client, [(key,) for key in keys], [("ZRANGE", key, 0, -1) for key in keys], ()
    )
    return [None if reply is None else [name.decode() for name in reply] for reply in replies]


async def _read_existing(
    client: Client, rows: Sequence[Sequence[str]], commands: Sequence[Command], absent: object
) -> list[Any]:
    """Return the reply of each command, as `read_all` does; `absent` for a row of keys that do not exist."""
    present = await may_exist(client, rows)
    wanted = list(compress(commands, present))
    replies = iter((await read_all(client, *wanted))[0] if wanted else ())
    return [next(replies) if may else absent for may in present]


async def push_all(client: Client, queue: str, elements: Sequence[bytes]) -> int:
    """Push elements as an application does. Returns the length of the list. Raises StoreError."""
    try:
        length = int(await client.execute_command("RPUSH", queue, *elements))
    except REDIS_ERRORS as error:
        raise StoreError(f"RPUSH {queue}: {describe(error)}") from error
    raise_if_cancelled()
    return length
