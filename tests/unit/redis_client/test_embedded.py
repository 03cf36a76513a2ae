"""A Redis server that relay starts itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from relay.errors import StoreError
from relay.redis_client.embedded import EmbeddedRedis
from relay.settings.redis_url import EmbeddedPlace


async def test_a_port_of_another_program_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        place = EmbeddedPlace.of(f"embedded://{tmp_path}/data?port={port}")
        with pytest.raises(StoreError, match=f"cannot open port {port} of 127.0.0.1: Address already in use"):
            async with EmbeddedRedis(place):
                pass


async def process_of(server: EmbeddedRedis) -> int:
    """Return the process id of a server, when it answers."""
    async with Redis.from_url(server.url) as client:
        return int((await client.info("server"))["process_id"])


async def next_process_of(server: EmbeddedRedis, earlier: int) -> int:
    """Return the id of the process that follows an earlier one."""
    async with asyncio.timeout(60):
        while True:
            try:
                if (number := await process_of(server)) != earlier:
                    return number
            except (OSError, ConnectionError, RedisConnectionError):
                await asyncio.sleep(0.02)


async def test_a_server_that_was_killed_is_started_again_with_its_data(tmp_path: Path) -> None:
    async with EmbeddedRedis(EmbeddedPlace(tmp_path / "data")) as server:
        async with Redis.from_url(server.url) as client:
            await client.rpush("queue", "element")
        killed = await process_of(server)
        os.kill(killed, signal.SIGKILL)
        await next_process_of(server, killed)
        async with Redis.from_url(server.url) as client:
            assert await client.lrange("queue", 0, -1) == [b"element"]


async def test_another_process_becomes_the_owner_when_the_first_one_stops(tmp_path: Path) -> None:
    place = EmbeddedPlace(tmp_path / "data")
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(EmbeddedRedis(place))
        server = await second.enter_async_context(EmbeddedRedis(place))
        earlier = await process_of(server)
        await first.aclose()
        await next_process_of(server, earlier)


async def test_the_path_of_the_folder_may_have_characters_with_a_meaning_in_urls(tmp_path: Path) -> None:
    async with EmbeddedRedis(EmbeddedPlace(tmp_path / "50%41 #1?")) as server:
        assert await process_of(server)
