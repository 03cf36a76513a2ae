"""Many commands sent together have the replies of redis-py's pipelines, and affect no later command."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError, TimeoutError

from relay.redis_client.batch import execute_together
from testing.redis_server import RedisServer

COMMANDS: list[tuple[str, ...]] = [
    ("HGETALL", "hash"),
    ("HMGET", "hash", "a", "nothing"),
    ("ZRANGE", "scores", "0", "-1", "WITHSCORES"),
    ("LRANGE", "hash", "0", "-1"),
    ("XRANGE", "stream", "-", "+"),
    ("EXISTS", "hash", "nothing"),
    ("GET", "nothing"),
    ("NO_SUCH_COMMAND", "hash"),
    ("INFO", "server"),
    *(("HGET", "hash", "a") for _ in range(300)),
]


async def test_replies_are_those_of_a_pipeline_with_the_errors_of_single_commands(redis: Redis) -> None:
    await redis.hset("hash", mapping={"a": "1", "ü": b"\xff"})
    await redis.zadd("scores", {"x": 1.5, "y": 2})
    await redis.xadd("stream", {"field": "value"}, id="1-1")
    async with redis.pipeline(transaction=False) as pipe:
        for words in COMMANDS:
            pipe.execute_command(*words)
        wanted = await pipe.execute(raise_on_error=False)
    assert list(map(_comparable, await execute_together(redis, COMMANDS))) == list(map(_comparable, wanted))


async def test_a_reading_that_is_cancelled_leaves_no_late_replies(redis: Redis) -> None:
    blocked = asyncio.create_task(execute_together(redis, [("ECHO", "early"), ("BLPOP", "nothing", "0")]))
    while not any(client["cmd"] == "blpop" for client in await redis.client_list()):
        await asyncio.sleep(0)
    blocked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await blocked
    for number in range(10):
        assert await execute_together(redis, [("ECHO", number)]) == [str(number).encode()]


async def test_a_redis_that_does_not_answer_ends_the_reading(redis: Redis, redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url, protocol=2, socket_timeout=0.05) as hurried:
        with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
            await execute_together(hurried, [("BLPOP", "nothing", "0")])


def _comparable(reply: Any) -> Any:
    if isinstance(reply, ResponseError):
        return str(reply)
    return sorted(reply) if isinstance(reply, dict) and "redis_version" in reply else reply
