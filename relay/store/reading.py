"""Reads many keys in one round trip. A key that cannot be read affects only its own reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from relay.errors import StoreError
from relay.redis_client.batch import execute_together
from relay.redis_client.client import REDIS_ERRORS, Client, describe
from relay.redis_client.topology import Topology

Command = tuple[str | bytes | int, ...]

RowT = TypeVar("RowT")

ROWS_PER_CHECK = 100
"""Rows whose keys are checked by one command."""

ROWS_PER_STEP = 100
"""Rows that are decoded before other tasks of the process may run."""


async def read_all(client: Client, *commands: Command) -> tuple[list[Any], str]:
    """The replies, None for each command that Redis refuses, and one line about all refusals.

    Raises StoreError if Redis cannot be reached.
    """
    return _judged(commands, await _replies(client, commands))


async def read_rows(client: Client, rows: Sequence[Sequence[Command]]) -> list[tuple[list[Any], str]]:
    """Read the commands of many rows in one round trip. Returns for each row what `read_all` returns.

    Raises StoreError if Redis cannot be reached.
    """
    commands = [words for row in rows for words in row]
    replies = await _replies(client, commands)
    found, first = [], 0
    for row in rows:
        found.append(_judged(row, replies[first : first + len(row)]))
        first += len(row)
    return found


async def may_exist(client: Client, rows: Sequence[Sequence[str]]) -> list[bool]:
    """Return for each row of keys whether any of them may exist.

    One command checks many rows, so a thousand rows without keys cost little. In a cluster no command
    reaches keys of several slots, so each row may exist. Raises StoreError if Redis cannot be reached.
    """
    if not rows or not Topology.of(client).is_one:
        return [True] * len(rows)
    parts = [rows[first : first + ROWS_PER_CHECK] for first in range(0, len(rows), ROWS_PER_CHECK)]
    replies, _ = await read_all(client, *(("EXISTS", *chain.from_iterable(part)) for part in parts))
    return [reply != 0 for part, reply in zip(parts, replies, strict=True) for _ in part]


async def in_steps(rows: Iterable[RowT]) -> AsyncIterator[RowT]:
    """Yield the rows. After each `ROWS_PER_STEP` other tasks run, because a process may also deliver."""
    for place, row in enumerate(rows):
        if place % ROWS_PER_STEP == 0:
            await asyncio.sleep(0)
        yield row


async def _replies(client: Client, commands: Sequence[Command]) -> list[Any]:
    if not commands:
        return []
    try:
        one = Topology.of(client).one
        if one is not None:
            return await execute_together(one, commands)
        async with client.pipeline(transaction=False) as pipe:
            for words in commands:
                pipe.execute_command(*words)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    return replies


def _judged(commands: Sequence[Command], replies: Sequence[Any]) -> tuple[list[Any], str]:
    refusals = []
    for words, reply in zip(commands, replies, strict=True):
        if isinstance(reply, ResponseError):
            refusals.append(f"{words[0]!s} {words[1]!s}: {describe(reply)}")
        elif isinstance(reply, Exception):
            raise StoreError(describe(reply)) from reply
    return [None if isinstance(reply, ResponseError) else reply for reply in replies], "; ".join(refusals)
