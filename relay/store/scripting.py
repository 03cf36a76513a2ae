"""The Lua scripts beside this module, loaded once and run by their digest."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from relay.errors import StoreError
from relay.store.channel import Channel

Client = Redis | RedisCluster
Argument = str | bytes | int | float

_FOLDER = files("relay.store") / "scripts"

_LANE_SCRIPTS = frozenset({"enqueue", "claim", "settle", "release", "cancel", "revive", "expand"})
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


class Script:
    """One script. Survives SCRIPT FLUSH and a failover: Redis gets the text again when it asks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = _source(name)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Client, keys: Sequence[str], *arguments: Argument) -> Any:
        """The reply. Raises StoreError; the script may or may not have run in that case."""
        reply, _ = await self.run_in_turn(client, keys, *arguments)
        return reply

    async def run_in_turn(
        self, client: Client, keys: Sequence[str], *arguments: Argument
    ) -> tuple[Any, bool]:
        """The reply, and whether the script ran before all that was asked later.

        Not in a cluster, and not where Redis had to be given the text first. Raises StoreError.
        """
        in_turn = isinstance(client, Redis)
        try:
            try:
                reply = await ask(client, "EVALSHA", self.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                in_turn = False
                reply = await ask(client, "EVAL", self.text, len(keys), *keys, *arguments)
        except TROUBLE as error:
            raise StoreError(f"{self.name}: {describe(error)}") from error
        heed_cancellation()
        return reply, in_turn


async def ask(client: Client, *words: Argument) -> Any:
    """The answer to one short command; never to one that blocks. Raises what is in `TROUBLE`."""
    if isinstance(client, Redis):
        return await channel_of(client).ask(*words)
    async with _slots(client):
        return await client.execute_command(*words)


def channel_of(client: Redis) -> Channel:
    """What all scripts go over that are run on one Redis."""
    channel = _channels.get(client)
    if channel is None:
        channel = _channels[client] = Channel(client)
    return channel


def _slots(client: RedisCluster) -> asyncio.Semaphore:
    slots = _slots_by_client.get(client)
    if slots is None:
        slots = _slots_by_client[client] = asyncio.Semaphore(AT_ONCE)
    return slots


@cache
def script(name: str) -> Script:
    """The script of that name, read once a process."""
    return Script(name)


def load_scripts() -> None:
    """Read all scripts into memory: a worker goes on with its own when the package is replaced."""
    for path in _FOLDER.iterdir():
        name, _, suffix = path.name.rpartition(".")
        if suffix == "lua" and name != "lane":
            script(name)


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


def _source(name: str) -> str:
    text = (_FOLDER / f"{name}.lua").read_text("utf-8")
    if name in _LANE_SCRIPTS:
        text = (_FOLDER / "lane.lua").read_text("utf-8") + text
    return text
