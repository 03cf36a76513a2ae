"""The memory that a waiting message takes in Redis: in its queue, and in a lane."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from relay.message import Message
from relay.settings.options import ProviderOptions
from relay.store.lane import Lane
from testing.redis_server import RedisServer, binaries

BATCH = 200


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    payload: int = 200
    """Bytes."""
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def cases() -> Iterator[Case]:
    yield Case("nothing else")
    yield Case("payload of 2 KiB", payload=2048)
    yield Case("payload of 20 KiB", payload=20_480)
    yield Case("an id, and `dedup_window`", fields={"named": True}, options={"dedup_window": 3600.0})
    yield Case("an `ordering_key` of its own", fields={"ordering_key": "key-{}"})
    yield Case("a `collapse_key` of its own", fields={"collapse_key": "key-{}"})
    yield Case("a group of its own", fields={"group": "customer-{}"}, options={"groups": {"by": "message"}})
    yield Case("`reply_to`", fields={"reply_to": "receipts:1"})


def body(size: int) -> bytes:
    return b'{"body":"' + b"x" * (size - 11) + b'"}'


def message(case: Case, number: int) -> Message:
    fields: dict[str, Any] = {
        name: value.format(number) if isinstance(value, str) else value for name, value in case.fields.items()
    }
    return Message(id=f"{number:032x}", queue="notifications", payload_json=body(case.payload), **fields)


async def used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def in_a_lane(redis: Redis, case: Case, messages: int) -> float:
    """Return the bytes for a message that waits in a lane."""
    await redis.flushall()
    lane = Lane(redis, "relay", "bench", ProviderOptions(type="bench", **case.options), "w1")
    await lane.enqueue([message(case, 0)])
    before = await used(redis)
    for start in range(1, messages + 1, BATCH):
        await lane.enqueue([message(case, start + number) for number in range(BATCH)])
    return (await used(redis) - before) / messages


async def in_a_queue(redis: Redis, case: Case, messages: int) -> float:
    """Return the bytes for an element of a queue, which the application pushed."""
    await redis.flushall()
    before = await used(redis)
    for start in range(0, messages, BATCH):
        texts = [
            json.dumps({"id": f"{start + number:032x}", "payload": json.loads(body(case.payload))})
            for number in range(BATCH)
        ]
        await redis.rpush("notifications", *texts)
    return (await used(redis) - before) / messages


async def rows(redis: Redis, messages: int) -> AsyncIterator[str]:
    yield "| a message of 200 bytes with | bytes in its queue | bytes in its lane |"
    yield "| --- | ---: | ---: |"
    for case in cases():
        count = messages if case.payload < 10_000 else messages // 10
        queue = "" if case.fields else f"{await in_a_queue(redis, case, count):,.0f}"
        yield f"| {case.name} | {queue} | {await in_a_lane(redis, case, count):,.0f} |"


async def table(folder: Path, messages: int) -> list[str]:
    server = RedisServer(max(binaries().items())[1], folder / "memory", "--appendonly", "no").start()
    try:
        async with Redis.from_url(server.url, protocol=2) as redis:
            return [row async for row in rows(redis, messages)]
    finally:
        server.stop()
