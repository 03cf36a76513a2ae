"""Every action of the console is in the audit log, with its reason and the name that the proxy knows."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from relay.admin.console.api import ROUTES
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store import audit
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.keys import FleetKeys
from relay.store.lane import Lane
from relay.store.record import pack
from relay.store.vitals import Vitals
from testing.builders import a_message
from testing.console_server import console_server, console_settings
from testing.redis_server import RedisServer

CONFIG = """
queues: [{name: q, provider: hook}]
providers: {hook: {type: webhook, url: "https://h.example/", groups: {by: message}}}
admin: {listen: "127.0.0.1:PORT", trusted_proxies: [127.0.0.1], user_header: X-Forwarded-User}
"""

ACTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("/lanes/hook/pause", "pause"): {"for": "1h"},
    ("/lanes/hook/resume", "resume"): {},
    ("/lanes/hook/pause?", "pause"): {"group": "tenant-7"},
    ("/lanes/hook/resume?", "resume"): {"group": "tenant-7"},
    ("/lanes/hook/rate", "rate"): {"rate": "50/s"},
    ("/lanes/hook/rate?", "rate-reset"): {"reset": True},
    ("/lanes/hook/send-next", "send-next"): {"id": "a"},
    ("/lanes/hook/cancel", "cancel"): {"id": "b"},
    ("/lanes/hook/probe", "probe"): {},
    ("/dead/retry", "retry"): {"letters": [{"entry": "1-0", "provider": "hook"}]},
    ("/dead/purge", "purge"): {"letters": [{"entry": "2-0", "provider": "hook"}]},
    ("/dead/edit", "edit"): {
        "letter": {"entry": "3-0", "provider": "hook"},
        "text": '{"body": {"text": "new"}}',
    },
    ("/queues/q/push", "push"): {"message": '{"payload": {"body": 1}}'},
    ("/workers/reload", "reload"): {},
    ("/workers/w1/drain", "drain"): {},
    ("/workers/w1/resume", "drain-end"): {},
    ("/workers/gone-1/dismiss", "dismiss"): {},
}
"""By path (with a mark, if there are two) and action: the arguments."""

READS_ONLY = {"/dead/text", "/jobs/{job}/stop", "/configuration/check"}
"""Routes that are POST and change nothing in Redis."""


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


async def fill(redis: Client, settings: Settings) -> None:
    """Let there be something to act on."""
    lane = Lane(redis, "relay", "hook", settings.providers["hook"], "w1")
    await lane.enqueue([a_message(name, group="tenant-7") for name in "abc"])
    for number in range(1, 4):
        letter: Any = {"ticket": number, "record": pack(a_message(f"dead-{number}")), "reason": "413"}
        await redis.xadd(lane.keys.part("dead"), letter, id=f"{number}-0")
    alive = WorkerInfo("w1", "web", "h", 1, "0.1.0", time.time(), ("hook",), ("q",), "abc")
    await Fleet(redis, "relay").heartbeat(msgspec.structs.replace(alive, vitals=Vitals(0.1, 1, 0)))
    gone = WorkerInfo("gone-1", "web", "h", 2, "0.1.0", 1.0, ("hook",), ("q",), "abc")
    keys = FleetKeys("relay")
    await Fleet(redis, "relay").heartbeat(gone)
    await redis.zrem(keys.workers, gone.worker)
    await redis.zadd(keys.gone, {gone.worker: time.time() * 1000})


async def test_every_action_is_in_the_audit_log_with_its_reason_and_the_user_of_the_proxy(
    redis: Redis,
) -> None:
    settings = console_settings(CONFIG)

    async def client() -> Redis:
        return redis

    await fill(redis, settings)
    control = Lane(redis, "relay", "hook", settings.providers["hook"], "w1").keys.part("control")
    async with console_server(settings, client) as url, ClientSession() as session:
        headers = {"Origin": url, "X-Forwarded-User": "ann\u202e<script>"}
        for number, ((path, action), arguments) in enumerate(ACTIONS.items(), start=1):
            if action == "probe":
                held: Any = {"state": "open", "since": 1, "hold": round(time.time() * 1000) + 60_000}
                await redis.hset(control, mapping=held)
            body = {**arguments, "because": f"why {action}"}
            async with session.post(f"{url}/api/v1{path.rstrip('?')}", json=body, headers=headers) as answer:
                assert answer.status in (200, 202), (path, await answer.text())
            entries = await audit.read(redis, "relay")
            assert len(entries) == number, path
            assert (entries[0].action, entries[0].why.endswith(f"why {action}")) == (action, True)
            assert entries[0].who.startswith("ann")
            assert entries[0].who.endswith("(console)")
            assert "\u202e" not in entries[0].who
    tried = {
        path.rstrip("?").replace("hook", "{provider}").replace("/q/", "/{queue}/") for path, _ in ACTIONS
    }
    tried = {path.replace("w1", "{worker}").replace("gone-1", "{worker}") for path in tried}
    assert {route.path for route in ROUTES if route.method == "POST"} == tried | READS_ONLY


async def test_the_user_header_of_anybody_else_counts_for_nothing(redis: Redis) -> None:
    settings = console_settings(CONFIG.replace("[127.0.0.1]", "[10.1.1.1]"))

    async def client() -> Redis:
        return redis

    async with console_server(settings, client) as url, ClientSession() as session:
        headers = {"Origin": url, "X-Forwarded-User": "ann"}
        async with session.post(f"{url}/api/v1/lanes/hook/pause", json={}, headers=headers) as answer:
            assert answer.status == 200
    (entry,) = await audit.read(redis, "relay")
    assert entry.who == "console@127.0.0.1"
