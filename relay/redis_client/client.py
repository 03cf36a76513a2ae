"""What all of relay shares of the Redis client: its type, its errors, one connection for short commands."""

from __future__ import annotations

import asyncio
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

TROUBLE = (RedisError, RedisClusterException, OSError, asyncio.TimeoutError, RuntimeError, AttributeError)
"""What the Redis client raises when Redis is away, slow or unwilling.

RuntimeError is what uvloop says to a write on a connection that has just been closed, where asyncio has a
ConnectionError; AttributeError is what redis-py (8.1) makes of a connection that another task of ours closed
between its look whether it is open and the write.
"""

AT_ONCE = 64
"""Scripts under way at once in a cluster, each on a connection of its own: a thousand lanes do not need a
thousand."""

_channels: WeakKeyDictionary[Redis, Channel] = WeakKeyDictionary()
_slots_by_client: WeakKeyDictionary[RedisCluster, asyncio.Semaphore] = WeakKeyDictionary()

FORBIDDEN = (AuthenticationError, NoPermissionError)
"""Errors that do not go away by waiting."""


async def ask(client: Client, *words: Argument) -> Any:
    """The answer to one short command; never to one that blocks. Raises what is in `TROUBLE`."""
    if topology.is_cluster(client):
        async with _slots(client):
            return await client.execute_command(*words)
    return await channel_of(client).ask(*words)


def channel_of(client: Redis) -> Channel:
    """What all scripts go over that are run on one Redis."""
    channel = _channels.get(client)
    if channel is None:
        channel = _channels[client] = Channel(client.connection_pool)
    return channel


def _slots(client: RedisCluster) -> asyncio.Semaphore:
    slots = _slots_by_client.get(client)
    if slots is None:
        slots = _slots_by_client[client] = asyncio.Semaphore(AT_ONCE)
    return slots


def heed_cancellation() -> None:
    """Raise the CancelledError that redis-py (8.1) swallows while it connects; else do nothing."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def is_refusal(error: StoreError) -> bool:
    """Whether Redis answered, and said no: the connection works."""
    return isinstance(error.__cause__, ResponseError)


def is_about_keys(error: StoreError) -> bool:
    """Whether Redis refuses certain keys, for their type or for want of a right, and not everything."""
    return is_refusal(error) and any(word in str(error) for word in ("WRONGTYPE", "NOPERM", "No permissions"))


def is_unavailable(error: ResponseError) -> bool:
    """Whether Redis has taken a command away, from this user or from everybody."""
    return isinstance(error, NoPermissionError) or "unknown command" in str(error)


def describe(error: BaseException) -> str:
    """A redis error in one line."""
    return str(error).strip() or type(error).__name__
