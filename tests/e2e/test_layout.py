"""A worker that meets lanes of a newer version."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

from testing.redis_server import RedisServer
from testing.relay_process import relay, write_config


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_worker_refuses_lanes_of_a_newer_version_and_takes_nothing(
    redis: Redis, redis_server: RedisServer, tmp_path: Path, processes: int
) -> None:
    providers = {"out": {"type": "redis", "url": redis_server.url}}
    config = write_config(tmp_path, redis_server.url, providers, processes=processes)
    await redis.hset("relay:{out}:control", "layout", "2")
    await redis.rpush("notifications", '{"payload": {"channel": "a", "data": 1}}')
    ended = await relay("run", "-c", str(config))
    assert ended.code == 2
    assert "newer version of relay has written these lanes: out (2)" in ended.err
    assert await redis.llen("notifications") == 1
    assert await redis.zcard("relay:{fleet}:workers") == 0
