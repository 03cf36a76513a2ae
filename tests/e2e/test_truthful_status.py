"""`relay status` and `/metrics/fleet` when keys cannot be read, or the file no longer names a lane or a
queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from testing.commands import output
from testing.ports import free_port
from testing.relay_process import relay, worker, write_config
from testing.site import Site
from tests.e2e.test_admin import get


async def test_a_key_of_a_wrong_type_spoils_one_row_and_the_rest_goes_on(site: Site) -> None:
    address = f"127.0.0.1:{free_port()}"
    queues = [{"name": name, "provider": "hook"} for name in ("good", "text", "forbidden")]
    providers = {"hook": site.webhook(), "broken": site.webhook()}
    await site.redis.set("text", "not a list")
    await site.redis.set("relay:{broken}:due", "not a sorted set")
    rules = ("on", "nopass", "resetkeys", "~relay:*", "~good", "~text", "resetchannels", "&relay:*", "+@all")
    await site.redis.execute_command("ACL SETUSER", "narrow", *rules)
    url = site.server.url.replace("redis://", "redis://narrow:any@")
    config = write_config(site.folder, url, providers, queues, admin={"listen": address})
    try:
        async with worker(config):
            await site.redis.rpush("good", '{"payload": {"body": 1}}')
            await site.receiver.until(1)
            status = await relay("status", "--json", "-c", str(config))
            assert status.code == 0, status.err
            rows = {row["name"]: row for row in status.json["queues"]}
            assert rows["good"]["error"] is None
            assert rows["text"]["error"].startswith("LLEN text: WRONGTYPE")
            assert "LLEN forbidden" in rows["forbidden"]["error"]
            lanes = {row["provider"]: row for row in status.json["lanes"]}
            assert lanes["hook"]["error"] is None
            assert lanes["hook"]["delivered"] == 1
            assert lanes["broken"]["error"].startswith("ZCARD relay:{broken}:due: WRONGTYPE")
            smaller = site.folder / "smaller"
            smaller.mkdir()
            other = write_config(smaller, url, {"hook": site.webhook(rate="1/h")}, queues[:1])
            seen = json.loads(await output("status", "--json", "-c", str(other)))
            assert [(row["provider"], row["rate"], row["configured"]) for row in seen["lanes"]] == [
                ("hook", "unlimited", True),
                ("broken", "unlimited", False),
            ], "the fleet's settings, and not those of this file"
            assert {row["name"] for row in seen["queues"]} == {"good", "text", "forbidden"}
            table = (await relay("status", "-c", str(config))).out
            assert "text: LLEN text: WRONGTYPE" in table
            code, metrics = await get(f"http://{address}/metrics/fleet")
            assert code == 200
            assert 'relay_queue_error{queue="text"} 1.0' in metrics
            assert 'relay_queue_error{queue="good"} 0.0' in metrics
            assert 'relay_lane_error{provider="broken"} 1.0' in metrics
            async with asyncio.timeout(120):
                while (await get(f"http://{address}/healthz"))[0] == 200:
                    await asyncio.sleep(0.02)
            health = (await get(f"http://{address}/healthz"))[1]
            assert "queue text: Redis refuses it" in health or "queue forbidden: Redis refuses it" in health
    finally:
        await site.redis.execute_command("ACL DELUSER", "narrow")


async def test_keys_of_the_fleet_that_cannot_be_read_leave_the_rest_to_be_seen(site: Site) -> None:
    await site.redis.set("relay:{fleet}:workers", "not a sorted set")
    await site.push("one")
    site.configure({"hook": site.webhook()})
    status = await site.relay("status", "--json")
    assert status.code == 0, status.err
    assert "WRONGTYPE" in status.json["errors"][0]
    assert status.json["queues"][0]["waiting"] == 1


@pytest.fixture
async def evicting(redis: Redis) -> AsyncIterator[None]:
    """Redis deletes keys of its own choice if it runs out of memory."""
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    yield
    await redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("evicting")
async def test_a_redis_that_evicts_and_names_that_left_the_file_are_warned_of(site: Site) -> None:
    """The names stay visible as long as they hold something."""
    old = site.folder / "old"
    old.mkdir()
    queues = [{"name": "left", "provider": "gone"}, {"name": "kept", "provider": "hook"}]
    providers = {"gone": site.webhook(), "hook": site.webhook(), "empty": site.webhook()}
    before = write_config(old, site.server.url, providers, queues)
    await site.redis.rpush("left", '{"payload": {"body": 1}, "delay": 3600}')
    async with worker(before):
        async with asyncio.timeout(120):
            while not await site.redis.zcard("relay:{gone}:due"):
                await asyncio.sleep(0.02)
    await site.redis.rpush("left", '{"payload": {"body": 2}}')
    await site.redis.xadd("relay:{gone}:outbox", {"letter": "that nobody carries"})

    address = f"127.0.0.1:{free_port()}"
    config = site.configure({"hook": site.webhook()}, queues[1:], admin={"listen": address})
    async with worker(config) as running:
        for finding in (
            "allkeys-lru deletes queues and lanes",
            "provider gone is not in the file, but holds messages (0 waiting, 1 delayed",
            "queue left is not in the file, but holds elements (1 waiting",
        ):
            await running.says("startup check", finding=finding)
        metrics = (await get(f"http://{address}/metrics/fleet"))[1]
        assert 'relay_lane_delayed{provider="gone"} 1.0' in metrics
        assert 'relay_lane_unconfigured{provider="gone"} 1.0' in metrics
        assert 'relay_lane_outbox{provider="gone"} 1.0' in metrics
        status = (await relay("status", "--json", "-c", str(config))).json
        assert [(row["provider"], row["configured"], row["outbox"]) for row in status["lanes"]] == [
            ("hook", True, 0),
            ("gone", False, 1),
        ]
        assert [(row["name"], row["configured"], row["waiting"]) for row in status["queues"]] == [
            ("kept", True, 0),
            ("left", False, 1),
        ]
        assert "not in the file" in (await relay("status", "-c", str(config))).out
        assert b"empty" not in await site.redis.hkeys("relay:{fleet}:lanes"), (
            "a lane that holds nothing is forgotten"
        )
