"""Workers with few file descriptors deliver everything, once, with fewer connections."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path

import pytest
from redis.asyncio import Redis

from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from tests.e2e.conftest import webhook


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.mark.parametrize(("limit", "providers"), [(40, 1), (30, 1), (256, 6)])
async def test_a_worker_with_few_descriptors_loses_nothing_and_makes_no_dead_letters(
    tmp_path: Path,
    redis_server: RedisServer,
    redis: Redis,
    receiver: Receiver,
    limit: int,
    providers: int,
) -> None:
    """Sixty messages for each provider, all of which the receiver holds until it has many of them."""
    names = [f"hook{number}" for number in range(providers)]
    retry = {"attempts": 2, "base": "100ms"}
    config = write_config(
        tmp_path,
        redis_server.url,
        {name: webhook(receiver, retry=retry) for name in names},
        [{"name": "notifications"}],
    )
    for name in names:
        sent = [json.dumps({"provider": name, "payload": {"body": {"n": n}}}) for n in range(60)]
        await redis.rpush("notifications", *sent)
    receiver.gate.clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with worker(config, limits={resource.RLIMIT_NOFILE: (limit, limit)}) as running:
        await receiver.until(min(4, limit - 28))
        receiver.gate.set()
        await receiver.until(60 * providers, seconds=60)
        async with asyncio.timeout(60):
            for name in names:
                while int(await redis.hget(f"relay:{{{name}}}:control", "delivered") or 0) < 60:
                    await asyncio.sleep(0.05)
        await running.says("too few file descriptors")
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
    identities = [request.headers["webhook-id"] for request in receiver.requests]
    assert (len(identities), len(set(identities))) == (60 * providers, 60 * providers)
    for name in names:
        assert await redis.exists(f"relay:{{{name}}}:dead") == 0
