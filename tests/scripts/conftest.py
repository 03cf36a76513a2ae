"""The scripts run on every Redis that is here, and on a cluster of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from relay.store.connect import open_client
from relay.store.scripting import Client
from tests.conftest import BINARIES
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer

NEWEST = max(BINARIES)
SERVERS = [*(f"redis-{version}" for version in sorted(BINARIES)), f"cluster-{NEWEST}"]


@pytest.fixture(scope="session", params=SERVERS)
def server_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server of each version that this machine has, and a cluster of three masters."""
    kind, _, version = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    binary = BINARIES[version]
    server: RedisServer | RedisCluster = (
        RedisCluster(binary, folder) if kind == "cluster" else RedisServer(binary, folder)
    )
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
async def redis(server_url: str) -> AsyncIterator[Client]:
    """A client of an empty database."""
    client = open_client(server_url)
    if isinstance(client, Redis):
        await client.flushall()
    else:
        await client.flushall(target_nodes="primaries")
    yield client
    await client.aclose()
