"""The numbers of queues for operators: many queues in a few round trips. Read only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay.errors import StoreError
from relay.message.times import pushed_at
from relay.redis_client.client import Client, is_refusal
from relay.store.keys import QueueKeys
from relay.store.reading import Command, read_rows
from relay.store.scripting import script
from relay.store.vitals import NO_FLOW, QueueFlow

TOGETHER = 100
"""Queues that are read in one pipeline."""

LONGEST_FIRST = 65536
"""Bytes. The age of a larger first element is unknown, because it would have to be read whole."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The numbers of one queue.

    `waiting` counts elements of the application's list and elements that wait for a lane; `taken` those on
    processing lists; `rejected` dead letters. `error` is the reason why some numbers could not be read; they
    are 0 then. `configured` is False if the file does not name the queue.
    """

    name: str
    waiting: int
    taken: int
    rejected: int
    error: str = ""
    configured: bool = True
    served: bool = True
    """Whether a living worker reads the queue."""
    oldest_seconds: float | None = None
    """Time since the first waiting element was created, if it contains that time."""
    flow: QueueFlow = NO_FLOW
    """Elements that living workers took lately."""

    @property
    def malformed_share(self) -> float | None:
        """The share of malformed elements among those taken lately; None if nothing was taken."""
        return self.flow.malformed / self.flow.taken if self.flow.taken else None

    @property
    def is_empty(self) -> bool:
        return not (self.error or self.waiting or self.taken or self.rejected)


async def read_queues(
    client: Client, prefix: str, workers: Mapping[str, Sequence[str]], now: float
) -> list[QueueStatus]:
    """Read many queues, by name with the workers that may hold elements of it. Raises StoreError."""
    names, found = list(workers), []
    for first in range(0, len(names), TOGETHER):
        some = {name: QueueKeys.of(prefix, name) for name in names[first : first + TOGETHER]}
        rows = await read_rows(client, [list(_numbers(keys, workers[name])) for name, keys in some.items()])
        deferred = [[lane.decode() for lane in replies[3] or ()] for replies, _ in rows]
        lengths = await read_rows(
            client,
            [
                [("LLEN", keys.deferred_for(lane)) for lane in lanes]
                for keys, lanes in zip(some.values(), deferred, strict=True)
            ],
        )
        queues = [_queue(name, row, more) for name, row, more in zip(some, rows, lengths, strict=True)]
        found += await asyncio.gather(
            *(
                _with_age(client, queue, keys, lanes, now)
                for queue, keys, lanes in zip(queues, some.values(), deferred, strict=True)
            )
        )
    return found


def _numbers(keys: QueueKeys, workers: Iterable[str]) -> Iterable[Command]:
    yield ("LLEN", keys.queue)
    yield ("LLEN", keys.staged)
    yield ("XLEN", keys.rejected)
    yield ("HKEYS", keys.deferred)
    yield from (("LLEN", keys.processing(worker)) for worker in workers)


def _queue(name: str, row: tuple[Sequence[Any], str], deferred: tuple[Sequence[Any], str]) -> QueueStatus:
    (waiting, staged, rejected, _, *taken), error = row
    numbers, refusals = deferred
    return QueueStatus(
        name,
        waiting=(waiting or 0) + (staged or 0) + sum(number or 0 for number in numbers),
        taken=sum(number or 0 for number in taken),
        rejected=rejected or 0,
        error="; ".join(filter(None, (error, refusals))),
    )


async def _with_age(
    client: Client, queue: QueueStatus, keys: QueueKeys, lanes: Iterable[str], now: float
) -> QueueStatus:
    """Return the queue with the age of its oldest element that contains its time."""
    if not queue.waiting:
        return queue
    lists = (*map(keys.deferred_for, lanes), keys.staged, keys.queue)
    try:
        firsts = await script("first_elements").run(client, lists, LONGEST_FIRST)
    except StoreError as error:
        if not is_refusal(error):
            raise
        return queue  # the row names the key that cannot be read
    times = [at for at in map(pushed_at, firsts) if at is not None]
    return replace(queue, oldest_seconds=max(0.0, now - min(times)) if times else None)
