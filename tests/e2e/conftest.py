"""The end-to-end tests run on one Redis of the newest version, unless a module takes every version."""

from __future__ import annotations

import pytest

from testing.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server
