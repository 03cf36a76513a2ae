"""Errors that calls to Redis raise."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from relay.errors import StoreError
from relay.store.scripting import script
from testing.builders import a_lane
from testing.redis_server import RedisServer

ROOT = Path(__file__).parents[2]


def test_the_documented_rights_cover_every_command_of_the_scripts() -> None:
    calls = re.compile(r"p?call\((?:[^()']* )?'([A-Z]+)'(?: or '([A-Z]+)')?")
    scripts = (ROOT / "relay/store/scripts").rglob("*.lua")
    used = {
        name.lower() for script in scripts for found in calls.findall(script.read_text()) for name in found
    }
    page = (ROOT / "docs/how-to/prepare-redis.md").read_text()
    rules = re.findall(r"ACL SETUSER relay on >PASSWORD [^`]*", page)[0]
    assert used - {""} - set(re.findall(r"\+([a-z]+)", rules)) == set()


def test_a_connection_that_closes_while_it_is_opened_is_trouble_on_uvloop_too(
    newest_redis_server: RedisServer,
) -> None:
    """uvloop raises RuntimeError at a write on it, which would end the worker."""

    async def close_first(connection: AbstractConnection) -> None:
        assert connection._writer is not None  # noqa: SLF001 - no public way
        connection._writer.transport.abort()  # noqa: SLF001 - no public way
        await asyncio.sleep(0.01)
        await connection.on_connect()

    async def ask() -> None:
        port = newest_redis_server.port
        retry = Retry(NoBackoff(), 0)
        async with Redis(port=port, redis_connect_func=close_first, retry=retry, protocol=2) as client:
            with pytest.raises(StoreError, match="closed"):
                await script("outbox").run(client, ("nothing",), 1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())


async def test_a_connection_that_another_task_closes_under_a_call_is_trouble(
    newest_redis_server: RedisServer,
) -> None:
    """redis-py looks whether it is open, and writes a step of the loop later."""

    class Closing(Connection):
        async def _send_packed_command(self, command: Any) -> None:
            await self.disconnect(nowait=True)
            await super()._send_packed_command(command)

    pool = ConnectionPool(
        connection_class=Closing,
        port=newest_redis_server.port,
        socket_timeout=1,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    async with Redis(connection_pool=pool) as client:
        with pytest.raises(StoreError, match="writelines"):
            await script("outbox").run(client, ("nothing",), 1)
    await pool.disconnect()


async def test_the_text_of_a_missing_script_is_sent_once_for_many_runs(
    newest_redis_server: RedisServer,
) -> None:
    """After a failover, a thousand lanes need it at the same time."""
    async with Redis(port=newest_redis_server.port, protocol=2) as redis:
        lanes = [a_lane(redis, name=f"lane{number}") for number in range(50)]
        await redis.flushall()
        await redis.script_flush()
        await redis.config_resetstat()
        found = await asyncio.gather(*(lane.claim(1) for lane in lanes))
        assert {claimed.reason for claimed in found} == {"empty"}
        assert (await redis.info("commandstats"))["cmdstat_eval"]["calls"] == 1
