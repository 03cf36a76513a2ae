"""Blocking waits for the next element of a queue, on a connection of their own.

A wait would delay all other commands of a shared connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Argument, Client, describe, raise_if_cancelled
from relay.redis_client.connection import Channel
from relay.redis_client.slots import SlotChannel
from relay.redis_client.topology import is_cluster
from relay.store.keys import QueueKeys
from relay.store.scripting import Script

MAX_WAIT_BYTES = 16 * 1024
"""Maximum bytes of an element that a wait returns. A longer one stays in Redis until it is fetched."""

TOO_LONG = b""
"""Returned for a longer element."""


class Waits:
    """The waits of one queue, one at a time. Every method raises StoreError."""

    def __init__(self, client: Client, keys: QueueKeys) -> None:
        self._client = client
        self._keys = keys
        self._channel: Channel | SlotChannel = (
            SlotChannel(client, keys.queue, longest=MAX_WAIT_BYTES)
            if is_cluster(client)
            else Channel(client.connection_pool, longest=MAX_WAIT_BYTES)
        )
        self.early = 0.0
        """Seconds of the waits that begin with a script; 0: none do. Not for a cluster."""
        self._coming: asyncio.Future[Any] | None = None
        """The reply to a wait that has begun with a script."""

    async def next(self, seconds: float) -> bytes | None:
        """Return the next element, which is still to be fetched, or None if none came within `seconds`.

        Returns TOO_LONG for a long element, which does not enter this process's memory.

        Redis moves the element to the staged list, from which every fetch starts: the element keeps its place
        even if this worker dies or loses its connection.
        """
        coming = self._coming
        try:
            if coming is None:
                element: bytes | None = await self._channel.execute(*self._command(seconds))
            else:
                if seconds < self.early:
                    await asyncio.wait({coming}, timeout=seconds)
                    if not coming.done():
                        return None
                self._coming = None
                element = await coming
        except REDIS_ERRORS as error:
            raise StoreError(f"BLMOVE {self._keys.queue}: {describe(error)}") from error
        except asyncio.CancelledError:
            await self.close()
            raise
        raise_if_cancelled()
        return element

    async def run_before(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script, whose reply is a text or nothing, and begin to wait for the next element.

        Both commands go out together, which costs this process and Redis as much as one. `next` returns the
        element. If `early` is 0, only the script runs.
        """
        channel = self._channel
        if not self.early or self._coming is not None or isinstance(channel, SlotChannel):
            return await script.run(self._client, keys, *arguments)
        commands = script.command(keys, *arguments), self._command(self.early)
        try:
            answer, self._coming = await channel.send(*commands)
            reply = await answer
        except NoScriptError:
            return await script.run(self._client, keys, *arguments)
        except REDIS_ERRORS as error:
            raise StoreError(f"{script.name}: {describe(error)}") from error
        except asyncio.CancelledError:
            await self.close()
            raise
        raise_if_cancelled()
        return reply

    def forget(self) -> None:
        """Forget an element that has come, because a fetch takes it."""
        if self._coming is not None and self._coming.done():
            self._coming.exception()
            self._coming = None

    async def close(self) -> None:
        """End the wait, and its connection. Otherwise Redis could move an element that nobody expects."""
        await self._channel.close()
        self.forget()

    def _command(self, seconds: float) -> tuple[Argument, ...]:
        return "BLMOVE", self._keys.queue, self._keys.staged, "LEFT", "RIGHT", seconds
