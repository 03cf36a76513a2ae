"""Reads many keys in one round trip. A key that cannot be read affects only its own reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe

Command = tuple[str | bytes | int, ...]


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
    if not commands:
        return [([], "") for _ in rows]
    replies = await _replies(client, commands)
    found, first = [], 0
    for row in rows:
        found.append(_judged(row, replies[first : first + len(row)]))
        first += len(row)
    return found


async def _replies(client: Client, commands: Sequence[Command]) -> list[Any]:
    try:
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
