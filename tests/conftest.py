"""Fixtures for tests of every kind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from testing.receiver import Receiver, receiving
from testing.redis_server import BLOCKING_TIMEOUT, RedisServer, binaries
from testing.site import Site

BINARIES = binaries()

TESTS = Path(__file__).parent
LONGEST = {folder: place for place, folder in enumerate(("faults", "e2e", "scripts", "integration"))}
"""Folders whose tests start processes, the slowest first."""

# A shell ignores these signals for background jobs, and each process of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A slow example is the fault of a busy machine.
settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more than this process has cores: most tests wait for something."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep modules and tests out of the garbage collector, because they live until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: LONGEST.get(item.path.relative_to(TESTS).parts[0], len(LONGEST)))


@pytest.fixture(scope="session", params=sorted(BINARIES), ids=lambda version: f"redis-{version}")
def every_redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """One server of each version that this machine has."""
    server = RedisServer(BINARIES[request.param], tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def newest_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server, for behaviour that is the same on every Redis."""
    server = RedisServer(BINARIES[max(BINARIES)], tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(every_redis_server: RedisServer) -> RedisServer:
    """Folders and modules override it with `newest_redis_server`."""
    return every_redis_server


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty database."""
    await asyncio.to_thread(redis_server.ensure_answers)
    url, wait = redis_server.url, BLOCKING_TIMEOUT
    async with Redis.from_url(url, protocol=2, socket_timeout=wait) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, redis_server: RedisServer, redis: Redis, receiver: Receiver) -> Site:
    return Site(tmp_path, redis_server, redis, receiver)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter; those of pytest are closed."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
