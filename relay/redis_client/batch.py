"""Sends many commands to one Redis together.

The pipelines of redis-py do the same with eight times the work for each command (0.9 µs instead of 7 µs):
they pack commands in Python and start a timeout for each reply. A thousand lanes take 22,000 commands.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis
from redis import exceptions
from redis.asyncio import Redis

REPLIES_PER_TIMEOUT = 100
"""Replies that have to arrive within the timeout of the connection."""


async def execute_together(client: Redis, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
    """Return the replies as `client.pipeline(transaction=False)` does, errors of single commands among them.

    Raises one of `REDIS_ERRORS` if the connection fails.
    """
    packed = [hiredis.pack_command(words) for words in commands]  # type: ignore[arg-type]  # see connection.py
    connection: Any = await client.connection_pool.get_connection()
    complete = False
    try:
        await connection.send_packed_command([b"".join(packed)])
        replies: list[Any] = []
        for first in range(0, len(commands), REPLIES_PER_TIMEOUT):
            replies += await _replies(connection, len(commands[first : first + REPLIES_PER_TIMEOUT]))
            await asyncio.sleep(0)  # others may run, although all replies may have arrived
        complete = True
    finally:
        if not complete:
            # Late replies must not be taken for replies to other commands.
            await connection.disconnect(nowait=True)
        await client.connection_pool.release(connection)
    return list(_decoded(client, commands, replies))


async def _replies(connection: Any, count: int) -> list[Any]:
    """Read the next replies."""
    replies: list[Any] = []
    try:
        async with asyncio.timeout(connection.socket_timeout):
            for _ in range(count):
                try:
                    replies.append(await connection.read_response(timeout=math.inf))
                except exceptions.ResponseError as error:
                    replies.append(error)
    except TimeoutError as error:
        raise exceptions.TimeoutError(f"no answer within {connection.socket_timeout:g} s") from error
    return replies


def _decoded(
    client: Redis, commands: Sequence[Sequence[str | bytes | int]], replies: Iterable[Any]
) -> Iterable[Any]:
    """Yield replies in the form that redis-py gives to those of each command."""
    callbacks: Any = client.response_callbacks
    for words, reply in zip(commands, replies, strict=True):
        decode = None if isinstance(reply, Exception) else callbacks.get(words[0])
        yield decode(reply) if decode else reply
