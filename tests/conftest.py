"""Fixtures that every kind of test uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from tests.support.redis_server import BLOCKING_TIMEOUT, RedisServer, binaries

BINARIES = binaries()

# A busy machine is no mistake of a test's.
settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")


@pytest.fixture(scope="session", params=sorted(BINARIES), ids=lambda version: f"redis-{version}")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """One server of each version that this machine has."""
    server = RedisServer(BINARIES[request.param], tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def newest_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server, for modules about what is the same on every Redis: they make it their `redis_server`."""
    server = RedisServer(BINARIES[max(BINARIES)], tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty database."""
    url, wait = redis_server.url, BLOCKING_TIMEOUT
    async with Redis.from_url(url, protocol=2, socket_timeout=wait) as client:
        await client.flushall()
        yield client
