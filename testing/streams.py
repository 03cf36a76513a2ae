"""The entries of a stream in the type that they have; redis-py's own is a union of all that Redis returns."""

from __future__ import annotations

from typing import Any

from relay.redis_client.client import Client


async def entries_of(redis: Client, stream: str, **bounds: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = await redis.xrange(stream, **bounds)
    return list(found)
