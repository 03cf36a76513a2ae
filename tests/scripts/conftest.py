"""The scripts run on every installed Redis, and on a cluster of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from relay.redis_client.client import Client
from relay.redis_client.connect import open_client
from testing.redis_cluster import RedisCluster
from testing.redis_server import RedisServer
from tests.conftest import BINARIES

NEWEST = max(BINARIES)
SERVERS = [*(f"redis-{version}" for version in sorted(BINARIES)), f"cluster-{NEWEST}"]


@pytest.fixture(scope="session", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer | RedisCluster]:
    """One server of each version that this machine has, and a cluster of three masters."""
    kind, _, version = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    binary = BINARIES[version]
    running: RedisServer | RedisCluster = (
        RedisCluster(binary, folder) if kind == "cluster" else RedisServer(binary, folder)
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def server_url(server: RedisServer | RedisCluster) -> str:
    return server.url


@pytest.fixture
async def redis(server: RedisServer | RedisCluster) -> AsyncIterator[Client]:
    """A client of an empty database."""
    await asyncio.to_thread(server.ensure_answers)
    client = open_client(server.url)
    if isinstance(client, Redis):
        await client.flushall()
    else:
        await client.flushall(target_nodes="primaries")
    yield client
    await client.aclose()
