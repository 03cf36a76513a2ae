"""Fixtures of the fault tests: a receiver, and one Redis of the newest version."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from testing.receiver import Receiver, receiving
from testing.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running
