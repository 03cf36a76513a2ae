"""Redis runs, but is in trouble in the middle of a drain: the worker waits and continues on its own."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from relay.store.overview import read_lane
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from testing.site import Site
from testing.tcp_proxy import TcpProxy, proxying
from tests.conftest import BINARIES

TOTAL = 160
ENDLESS_SCRIPT = "while true do end"


@dataclass
class Scene:
    """All that a fault may change. The worker reaches Redis through the proxy, the test directly."""

    server: RedisServer
    proxy: TcpProxy
    redis: Redis


async def lasts(seconds: float) -> None:
    """The duration of a trouble. No test relies on anything that happens meanwhile."""
    await asyncio.sleep(seconds)


async def cut(scene: Scene) -> None:
    scene.proxy.cut()
    await lasts(0.7)
    scene.proxy.heal()


async def stall(scene: Scene) -> None:
    scene.proxy.stall()
    await lasts(1.2)
    scene.proxy.heal()


async def lose_answers(scene: Scene) -> None:
    scene.proxy.lose_answers()
    await lasts(0.3)
    scene.proxy.reset()
    scene.proxy.heal()


async def answer_late(scene: Scene) -> None:
    scene.proxy.delay(0.2)
    await lasts(1)
    scene.proxy.heal()


async def close_connections(scene: Scene) -> None:
    for _ in range(5):
        await scene.redis.execute_command("CLIENT KILL TYPE normal SKIPME yes")
        await lasts(0.05)


async def forget_scripts(scene: Scene) -> None:
    for _ in range(5):
        await scene.redis.script_flush()
        await lasts(0.05)


async def become_a_replica(scene: Scene) -> None:
    """Behave as an old master after a failover. The other end does not exist, so the server keeps its
    data."""
    await scene.redis.execute_command("REPLICAOF 127.0.0.1 1")
    await lasts(0.7)
    await scene.redis.execute_command("REPLICAOF NO ONE")


async def run_out_of_memory(scene: Scene) -> None:
    await scene.redis.config_set("maxmemory", 1)
    await lasts(0.7)
    await scene.redis.config_set("maxmemory", 0)


async def be_busy(scene: Scene) -> None:
    await scene.redis.config_set("lua-time-limit", 10)
    busy = asyncio.ensure_future(scene.redis.eval(ENDLESS_SCRIPT, 0))
    await lasts(0.7)
    async with Redis.from_url(scene.server.url) as other:
        await other.script_kill()
    with suppress(RedisError):
        await busy


async def have_no_room_for_clients(scene: Scene) -> None:
    """All connections are taken by others when the worker's are closed."""
    await scene.redis.config_set("maxclients", 4)
    taken = [socket.create_connection(("127.0.0.1", scene.server.port)) for _ in range(3)]
    await scene.redis.execute_command("CLIENT KILL TYPE normal SKIPME yes")
    taken = [socket.create_connection(("127.0.0.1", scene.server.port)) for _ in range(3)]
    await lasts(0.7)
    await scene.redis.config_set("maxclients", 1000)
    for each in taken:
        each.close()


async def pause_clients(scene: Scene) -> None:
    await scene.redis.execute_command("CLIENT PAUSE 700 ALL")
    await scene.redis.ping()


async def freeze(scene: Scene) -> None:
    scene.server.signal(signal.SIGSTOP)
    await lasts(1.2)
    scene.server.signal(signal.SIGCONT)


async def load_slowly(scene: Scene) -> None:
    """A restart after which it answers LOADING for a while."""
    await scene.redis.hset("ballast", mapping={str(number): "x" for number in range(300)})
    await scene.redis.execute_command("BGREWRITEAOF")
    while (await scene.redis.info("persistence"))["aof_rewrite_in_progress"]:
        await asyncio.sleep(0.01)
    scene.server.kill()
    scene.server.options += ("--key-load-delay", "2000")
    await asyncio.to_thread(scene.server.start)


TROUBLES = [
    cut,
    stall,
    lose_answers,
    answer_late,
    close_connections,
    forget_scripts,
    become_a_replica,
    run_out_of_memory,
    be_busy,
    have_no_room_for_clients,
    pause_clients,
    freeze,
    load_slowly,
]


def message(number: int) -> str:
    return json.dumps({"id": f"m{number}", "reply_to": "receipts:ends", "payload": {"body": {"n": number}}})


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_a_drain_goes_on_after_trouble_with_redis(
    tmp_path: Path, receiver: Receiver, trouble: Callable[[Scene], Awaitable[None]]
) -> None:
    server = RedisServer(BINARIES[max(BINARIES)], tmp_path / "redis", "--appendfsync", "always").start()
    try:
        async with proxying(server.port) as proxy, Redis.from_url(server.url, protocol=2) as redis:
            provider = {"type": "webhook", "url": f"{receiver.url}/hook", "rate": "200/s", "burst": 1}
            config = write_config(tmp_path, proxy.url, {"hook": provider})
            await redis.rpush("notifications", *(message(number) for number in range(TOTAL // 2)))
            async with worker(config) as running:
                await receiver.until(20)
                await trouble(Scene(server, proxy, redis))
                await redis.rpush("notifications", *(message(number) for number in range(TOTAL // 2, TOTAL)))
                await receiver.until(TOTAL)
                receipts = await _receipts(redis)
            assert not [line for line in running.lines if "exception" in line], "nothing was unexpected"
            workers = [running.lines[0]["worker"]]
            lane = await read_lane(redis, "relay", "hook", workers, 0)
    finally:
        server.stop()
    # Each was pushed once. A message is sent twice only if its outcome could not be recorded.
    numbers = Counter(json.loads(request.body)["n"] for request in receiver.requests)
    assert set(numbers) == set(range(TOTAL))
    assert max(numbers.values()) == 1
    assert receipts == {f"m{number}": 1 for number in range(TOTAL)}
    assert (lane.waiting, lane.in_flight, lane.totals["delivered"]) == (0, 0, TOTAL)


async def test_queued_messages_are_delivered_while_redis_is_out_of_memory(site: Site) -> None:
    """The application gets an error on a push; everything else continues, from start to end."""
    provider = {"type": "webhook", "url": f"{site.receiver.url}/hook", "rate": "200/s", "dedup_window": "1m"}
    site.configure({"hook": provider})
    await site.push(*(message(number) for number in range(TOTAL)))
    await site.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisError, match="maxmemory"):
            await site.push(message(TOTAL))
        async with site.worker():
            await site.receiver.until(TOTAL)
            assert await _receipts(site.redis) == {f"m{number}": 1 for number in range(TOTAL)}
        assert await site.redis.keys("*inflight*") == []
    finally:
        await site.redis.config_set("maxmemory", 0)


async def test_a_worker_that_starts_while_redis_takes_nothing_waits_for_it(site: Site) -> None:
    site.configure({"hook": {"type": "webhook", "url": f"{site.receiver.url}/hook"}})
    await site.push(message(1))
    await site.redis.execute_command("REPLICAOF 127.0.0.1 1")
    try:
        async with site.worker(ready="waiting for Redis") as running:
            await site.redis.execute_command("REPLICAOF NO ONE")
            await running.says("ready")
            await site.receiver.until(1)
    finally:
        await site.redis.execute_command("REPLICAOF NO ONE")


async def _receipts(redis: Redis) -> dict[str, int]:
    async with asyncio.timeout(120):
        while True:
            texts: list[Any] = [json.loads(text) for text in await redis.lrange("receipts:ends", 0, -1)]
            if len(texts) >= TOTAL:
                return Counter(text["id"] for text in texts)
            await asyncio.sleep(0.02)
