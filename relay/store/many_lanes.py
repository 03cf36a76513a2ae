"""One script for many lanes of one Redis: much cheaper than a script for each if each has few messages.

The lanes stay independent, as if each had its own script: an error in one of them is returned for it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.message import Message
from relay.redis_client.client import Argument, describe
from relay.store.claims import Claim
from relay.store.lane import Lane
from relay.store.scripting import Call, script


class Part(msgspec.Struct, frozen=True):
    """The messages of a fetch for one lane, all of which `Lane.claims_directly` admits."""

    lane: Lane
    messages: Sequence[Message]


class ManyLanes:
    """Not for a cluster, in which lanes are on several nodes."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def enqueue_into_flight(
        self, parts: Sequence[Part], batch_id: str, sequence: str
    ) -> list[Sequence[Claim] | StoreError | None]:
        """Return for each part what `Lane.enqueue_into_flight` returns or raises.

        Raises StoreError if that is the same for all, because Redis refused the script or failed.
        """
        calls = [part.lane.into_flight(part.messages, batch_id, sequence) for part in parts]
        replies = iter(await self._run("enqueue_into_flight", [call for call in calls if call is not None]))
        found: list[Sequence[Claim] | StoreError | None] = []
        for part, call in zip(parts, calls, strict=True):
            reply = None if call is None else next(replies)
            failed = isinstance(reply, StoreError)
            found.append(reply if failed else part.lane.claims_in_flight(reply, part.messages))
        return found

    async def _run(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run a script for several lanes. Returns its reply or StoreError for each of them."""
        if not calls:
            return []
        keys: list[str] = []
        arguments: list[Argument] = [len(calls[0].keys)]
        for call in calls:
            keys += call.keys
            arguments.append(len(call.arguments))
            arguments += call.arguments
        replies = await script(f"{name}:lanes").run(self._client, keys, *arguments)
        return [_failed(name, reply) if isinstance(reply, Exception) else reply for reply in replies]


def _failed(name: str, cause: Exception) -> StoreError:
    error = StoreError(f"{name}: {describe(cause)}")
    error.__cause__ = cause
    return error
