"""Findings of `relay check --connect` on real servers. It changes nothing there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError

from relay.errors import StoreError, UsageError
from relay.redis_client.client import Client
from relay.redis_client.connect import connect
from relay.settings.models import QueueSettings, RedisSettings, Settings
from relay.settings.options import ProviderOptions
from relay.settings.values import Secret
from relay.store.findings import Level
from relay.store.preflight import examine
from relay.store.registry import Names, register
from testing.ports import free_port, free_port_with_bus
from testing.redis_sentinel import SentinelServer
from testing.redis_server import RedisServer
from tests.conftest import BINARIES

BINARY = BINARIES[max(BINARIES)]


def settings(url: str) -> Settings:
    return Settings(
        redis=RedisSettings(url=Secret(url)),
        queues=[QueueSettings(name="hits"), QueueSettings(name="{a}b")],
        providers={"hook": ProviderOptions(type="hook"), "other": ProviderOptions(type="hook")},
    )


async def bad(client: Client, url: str) -> dict[str, str]:
    """The texts of findings that are not ok, by `level subject`."""
    findings = await examine(client, settings(url))
    return {
        f"{finding.level.value} {finding.subject}": finding.text
        for finding in findings
        if finding.level is not Level.OK
    }


@asynccontextmanager
async def as_user(server: RedisServer, *rules: str) -> AsyncIterator[str]:
    """The URL of a user with these rights."""
    async with Redis(port=server.port) as admin:
        await admin.execute_command("ACL SETUSER", "narrow", "on", "nopass", *rules)
        try:
            yield f"redis://narrow:any@127.0.0.1:{server.port}/0"
        finally:
            await admin.execute_command("ACL DELUSER", "narrow")


async def found_by(url: str) -> dict[str, str]:
    async with connect(url) as client:
        return await bad(client, url)


@asynccontextmanager
async def configured(redis: Redis, **values: str) -> AsyncIterator[None]:
    """Other values of the server's configuration, put back afterwards."""
    before: dict[str, Any] = {}
    for name, value in values.items():
        key = name.replace("_", "-")
        before[key] = (await redis.config_get(key)).popitem()[1]
        await redis.config_set(key, value)
    try:
        yield
    finally:
        for key, value in before.items():
            await redis.config_set(key, value)
        # A server that writes its first append-only file does not obey SIGTERM.
        async with asyncio.timeout(120):
            while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
                await asyncio.sleep(0.02)


async def test_a_healthy_redis_of_any_kind_passes_and_is_left_as_it_was(
    redis: Client, server_url: str
) -> None:
    await redis.rpush("hits", "one", "two")
    await redis.hset("relay:{hook}:control", "sequence", 1)
    # Other programs use the same machine, so its memory is not asserted.
    assert {key: text for key, text in (await found_by(server_url)).items() if "memory" not in key} == {}
    assert await redis.lrange("hits", 0, -1) == [b"one", b"two"]
    assert await redis.hgetall("relay:{hook}:control") == {b"sequence": b"1"}
    assert not await redis.exists("relay:{check}:probe")


async def test_keys_of_a_wrong_type_fail_on_any_kind_of_redis(redis: Client, server_url: str) -> None:
    await redis.set("hits", "text")
    text = (await found_by(server_url))["FAILED keys"]
    assert "hits is a string but must be a list" in text
    assert "push with RPUSH" in text
    await redis.delete("hits")
    await redis.set("relay:{hook}:due", "text")
    assert "relay:{hook}:due is a string but must be a zset" in (await found_by(server_url))["FAILED keys"]


@pytest.fixture
async def admin(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=redis_server.port, protocol=2) as client:
        await client.flushall()
        yield client


ALL = ("allkeys", "allchannels", "+@all")


@pytest.mark.parametrize(
    ("rules", "advice"),
    [
        (("~relay:*", "~{a}b", "allchannels", "+@all"), "the keys hits: ACL SETUSER narrow '~hits'"),
        (("~hits", "~{a}b", "allchannels", "+@all"), "the keys relay:*: ACL SETUSER narrow '~relay:*'"),
        ((*ALL, "-eval"), "the commands EVAL: ACL SETUSER narrow +eval"),
        ((*ALL, "-blmove", "-zadd"), "the commands ZADD, BLMOVE: ACL SETUSER narrow +zadd +blmove"),
        (("allkeys", "resetchannels", "+@all"), "the channel relay:wake: ACL SETUSER narrow '&relay:wake'"),
        ((*ALL, "-multi"), "the commands MULTI: ACL SETUSER narrow +multi"),
    ],
)
async def test_a_missing_right_is_named_with_the_rule_that_gives_it(
    redis_server: RedisServer, admin: Redis, rules: tuple[str, ...], advice: str
) -> None:
    await admin.rpush("hits", "one")
    async with as_user(redis_server, *rules) as url:
        assert (await found_by(url))["FAILED rights"].endswith(advice)
    assert await admin.lrange("hits", 0, -1) == [b"one"]


async def test_info_and_config_that_are_forbidden_are_no_failure(
    redis_server: RedisServer, admin: Redis
) -> None:
    async with as_user(redis_server, *ALL, "-info", "-config") as url:
        found = await found_by(url)
    assert list(found) == ["unknown server"]
    async with as_user(redis_server, *ALL, "-config") as url:
        found = await found_by(url)
    assert not [key for key in found if not key.startswith("unknown")]


async def test_settings_of_a_server_that_cost_messages_are_warnings(
    redis_server: RedisServer, admin: Redis
) -> None:
    async with configured(admin, maxmemory_policy="allkeys-lru", appendonly="no", timeout="5"):
        found = await found_by(redis_server.url)
    assert "allkeys-lru deletes queues and lanes" in found["warning eviction"]
    assert "no append-only file and no snapshots" in found["warning persistence"]
    assert "set `timeout 0`" in found["warning timeout"]
    async with configured(admin, maxmemory="1mb", maxmemory_policy="noeviction"):
        found = await found_by(redis_server.url)
    assert "raise maxmemory" in found["FAILED writes"]
    assert "warning memory" in found


async def test_a_replica_fails_with_the_address_of_its_master(
    redis_server: RedisServer, admin: Redis
) -> None:
    port = free_port()
    await admin.execute_command("REPLICAOF", "127.0.0.1", port)
    try:
        found = await found_by(redis_server.url)
    finally:
        await admin.execute_command("REPLICAOF", "NO", "ONE")
    assert f"put 127.0.0.1:{port} into redis.url" in found["FAILED role"]
    assert "accepts no writes" in found["FAILED writes"]


async def test_messages_without_a_worker_are_warnings(redis_server: RedisServer, admin: Redis) -> None:
    for prefix in ("relay", "earlier"):
        await register(admin, prefix, Names(("gone", "empty"), ("left",)))
        await admin.hset(f"{prefix}:{{gone}}:bodies", "1", "a record")
    await admin.rpush("left", "one")
    found = await found_by(redis_server.url)
    assert "provider gone is not in the file, but holds messages (1 waiting" in found["warning lanes"]
    assert "queue left is not in the file, but holds elements (1 waiting" in found["warning queues"]
    assert "1 messages are stored under the prefix earlier" in found["warning prefix"]


async def test_a_renamed_command_fails(tmp_path: Path) -> None:
    server = RedisServer(BINARY, tmp_path, "--rename-command", "EVAL", "").start()
    try:
        found = await found_by(server.url)
    finally:
        server.stop()
    assert "Redis has no command EVAL" in found["FAILED commands"]


async def test_a_url_of_the_wrong_kind_fails_with_the_right_one(
    tmp_path: Path, newest_redis_server: RedisServer
) -> None:
    node = RedisServer(BINARY, tmp_path, "--cluster-enabled", "yes")
    node.port = free_port_with_bus()
    node.start()
    try:
        found = await found_by(node.url)
    finally:
        node.stop()
    assert list(found) == ["FAILED cluster"]
    assert "write redis+cluster:// (or rediss+cluster://)" in found["FAILED cluster"]
    with pytest.raises(UsageError, match="is not a cluster; write redis:// instead"):
        await found_by(f"redis+cluster://127.0.0.1:{newest_redis_server.port}")


async def test_an_unknown_master_of_sentinels_is_named(tmp_path: Path) -> None:
    sentinel = SentinelServer(BINARY, tmp_path / "sentinel", free_port())
    sentinel.start()
    try:
        async with asyncio.timeout(120):
            text = ""
            while "have no master of this name" not in text or "refused" in text:
                with pytest.raises(StoreError) as caught:
                    await found_by(f"redis+sentinel://127.0.0.1:{sentinel.port}/nobody/0")
                text = str(caught.value)
                await asyncio.sleep(0.05)
        assert "No master found for 'nobody'" in text
    finally:
        sentinel.stop()


async def test_a_server_that_loads_its_data_is_a_warning(tmp_path: Path) -> None:
    server = RedisServer(BINARY, tmp_path, "--rdbcompression", "no").start()
    try:
        async with Redis(port=server.port) as admin:
            await admin.mset({f"ballast {number}": "x" * 100_000 for number in range(500)})
            await admin.execute_command("BGREWRITEAOF")
            while (await admin.info("persistence"))["aof_rewrite_in_progress"]:
                await asyncio.sleep(0.02)
        server.kill()
        # It answers after every 2 MiB: five times a second.
        server.options = ("--key-load-delay", "10000")
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        retry = Retry(NoBackoff(), 0)
        async with asyncio.timeout(120), Redis(port=server.port, retry=retry) as admin:
            loads = False
            while not loads:
                try:
                    assert not await admin.ping(), "it has loaded its data already"
                except BusyLoadingError:
                    loads = True
                except ConnectionError:
                    await asyncio.sleep(0.01)  # it does not listen yet
        found = await found_by(server.url)
        assert list(found) == ["warning loading"]
        assert "workers wait for it" in found["warning loading"]
        await starting
        assert await found_by(server.url) == {}
    finally:
        server.stop()
