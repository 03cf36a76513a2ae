"""Shared by all users of the Redis client: its type, its errors, one connection for short commands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from relay.errors import StoreError
from relay.redis_client import topology
from relay.redis_client.connection import Channel

Client = topology.Client
Argument = str | bytes | int | float

REDIS_ERRORS = (
    RedisError,
    RedisClusterException,
    OSError,
    asyncio.TimeoutError,
    RuntimeError,
    AttributeError,
)
"""Errors that the Redis client raises when Redis is unreachable, slow or refuses a command.

uvloop raises RuntimeError for a write to a connection that has just been closed (asyncio: ConnectionError).
redis-py (8.1) raises AttributeError if another task closes the connection between its check and the write.
"""

AT_ONCE = 64
"""The most scripts in progress at once in a cluster, each on a connection of its own: a thousand lanes do not
need a thousand."""

_channels: WeakKeyDictionary[Redis, Channel] = WeakKeyDictionary()
_slots_by_client: WeakKeyDictionary[RedisCluster, asyncio.Semaphore] = WeakKeyDictionary()

AUTH_ERRORS = (AuthenticationError, NoPermissionError)
"""Errors that waiting does not fix."""


async def execute(client: Client, *words: Argument) -> Any:
    """Return the reply to a short command, not to a blocking one. Raises one of `REDIS_ERRORS`."""
    if topology.is_cluster(client):
        async with _slots(client):
            return await client.execute_command(*words)
    return await channel_of(client).execute(*words)


async def transaction(client: Redis, *commands: Sequence[Argument]) -> list[Any]:
    """Run commands together, in MULTI and EXEC. Not for a cluster: redis-py starts a thread with an event
    loop of its own for each command of a transaction there.

    Returns their replies, errors of single commands among them. Raises one of `REDIS_ERRORS` if none of them
    ran, or if their replies were lost.
    """
    return await channel_of(client).transaction(*commands)


def channel_of(client: Redis) -> Channel:
    """The channel for all scripts on one Redis."""
    channel = _channels.get(client)
    if channel is None:
        channel = _channels[client] = Channel(client.connection_pool)
    return channel


def _slots(client: RedisCluster) -> asyncio.Semaphore:
    slots = _slots_by_client.get(client)
    if slots is None:
        slots = _slots_by_client[client] = asyncio.Semaphore(AT_ONCE)
    return slots


def raise_if_cancelled() -> None:
    """Raise the CancelledError that redis-py (8.1) swallows while it connects; else do nothing."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def is_refusal(error: StoreError) -> bool:
    """Return whether Redis replied with an error. If so, the connection works."""
    return isinstance(error.__cause__, ResponseError)


def is_about_keys(error: StoreError) -> bool:
    """Return whether Redis refuses only certain keys, because of their type or a missing right."""
    return is_refusal(error) and any(word in str(error) for word in ("WRONGTYPE", "NOPERM", "No permissions"))


def is_unavailable(error: ResponseError) -> bool:
    """Return whether a command is disabled, for this user or for all."""
    return isinstance(error, NoPermissionError) or "unknown command" in str(error)


def describe(error: BaseException) -> str:
    """A redis error in one line."""
    return str(error).strip() or type(error).__name__
