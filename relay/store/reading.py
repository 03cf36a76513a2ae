"""Reads many keys in one round trip. A key that cannot be read affects only its own reply."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe


async def read_all(client: Client, *commands: tuple[str | bytes | int, ...]) -> tuple[list[Any], str]:
    """The replies, None for each command that Redis refuses, and one line about all refusals.

    Raises StoreError if Redis cannot be reached.
    """
    try:
        async with client.pipeline(transaction=False) as pipe:
            for words in commands:
                pipe.execute_command(*words)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    refusals = []
    for words, reply in zip(commands, replies, strict=True):
        if isinstance(reply, ResponseError):
            refusals.append(f"{words[0]!s} {words[1]!s}: {describe(reply)}")
        elif isinstance(reply, Exception):
            raise StoreError(describe(reply)) from reply
    replies = [None if isinstance(reply, ResponseError) else reply for reply in replies]
    return replies, "; ".join(refusals)
