"""Another Redis takes over in the middle of a drain: with Sentinel, and in a cluster whose slots move, too.

A producer counts a message as pushed once a replica has it (WAIT), as replication is asynchronous.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from relay.redis_client.connect import open_client
from testing.commands import output, run_command
from testing.receiver import Receiver
from testing.redis_cluster import RedisCluster
from testing.redis_sentinel import RedisSentinel
from testing.redis_server import BLOCKING_TIMEOUT
from testing.relay_process import relay, worker, write_config
from tests.conftest import BINARIES

BINARY = BINARIES[max(BINARIES)]


def message(number: int) -> str:
    return json.dumps({"id": f"m{number}", "reply_to": "receipts:ends", "payload": {"body": {"n": number}}})


def push(port: int, numbers: range) -> None:
    """Push to a master, and wait for at least one of its replicas."""
    with SyncRedis(port=port, socket_timeout=BLOCKING_TIMEOUT) as master:
        master.rpush("notifications", *(message(number) for number in numbers))
        assert master.wait(1, 60_000) >= 1


async def delivered(receiver: Receiver, total: int, seconds: float = 120) -> Counter[int]:
    """Wait until every number has come, and return how often each one did."""

    def numbers() -> Counter[int]:
        return Counter(json.loads(request.body)["n"] for request in receiver.requests)

    async with asyncio.timeout(seconds):
        while len(numbers()) < total:
            await receiver.until(len(receiver.requests) + 1, seconds)
    return numbers()


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[RedisSentinel]:
    running = RedisSentinel(BINARY, tmp_path / "sentinel").start()
    yield running
    running.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    running = RedisCluster(BINARY, tmp_path / "cluster", replicas=1).start()
    yield running
    running.stop()


async def test_a_drain_goes_on_at_the_new_master_that_sentinel_names(
    tmp_path: Path, sentinel: RedisSentinel, receiver: Receiver
) -> None:
    """First by an operator's order, the old master lives on as a replica; then the new one is killed."""
    provider = {"type": "webhook", "url": f"{receiver.url}/hook", "rate": "150/s", "burst": 1}
    config = write_config(tmp_path, sentinel.url, {"hook": provider})
    first = sentinel.master()
    push(first.port, range(100))
    async with worker(config) as running:
        await receiver.until(30)
        second = await asyncio.to_thread(sentinel.fail_over)
        push(second.port, range(100, 200))
        await delivered(receiver, 130)
        await asyncio.to_thread(sentinel.until_all_follow, second)
        second.kill()
        third = await asyncio.to_thread(sentinel.until_master_is_not, second)
        push(third.port, range(200, 300))
        numbers = await delivered(receiver, 300)
        async with Redis(port=third.port) as redis, asyncio.timeout(120):
            while await redis.hlen("relay:{hook}:bodies") or await redis.xlen("relay:{hook}:outbox"):
                await asyncio.sleep(0.02)
            ends = {json.loads(text)["id"] for text in await redis.lrange("receipts:ends", 0, -1)}
            held = [key async for key in redis.scan_iter("*inflight*")]
    assert set(numbers) == set(range(300))
    # Work that the old master had not yet replicated is done again.
    assert sum(numbers.values()) < 300 + 150
    assert ends == {f"m{number}" for number in range(300)}
    assert held == [], "nothing stays in anybody's hands"
    assert not [line for line in running.lines if "exception" in line]


async def test_operators_see_and_control_a_fleet_before_and_after_a_failover_of_sentinel(
    tmp_path: Path, sentinel: RedisSentinel, receiver: Receiver
) -> None:
    provider = {"type": "webhook", "url": f"{receiver.url}/hook"}
    config = str(write_config(tmp_path, sentinel.url, {"hook": provider}))

    async def operate(message_id: str) -> None:
        await output("pause", "hook", "--because", "tonight", "-c", config)
        await output(
            "push", "notifications", json.dumps({"id": message_id, "payload": {"body": 1}}), "-c", config
        )
        async with asyncio.timeout(120):
            while '"waiting"' not in (await run_command("find", message_id, "--json", "-c", config)).stdout:
                pass
        assert "hook is paused" in await output("status", "-c", config)
        await output("rate", "hook", "50/s", "--for", "1h", "-c", config)
        await output("resume", "hook", "-c", config)
        await output("reload", "--wait", "60s", "-c", config)
        listed = await relay("dead", "list", "--by-reason", "-c", config)
        assert listed.code == 0, listed.err
        actions = [entry["action"] for entry in json.loads(await output("audit", "--json", "-c", config))]
        assert actions[:4] == ["reload", "resume", "rate", "pause"]

    async with worker(Path(config)):
        await operate("before")
        master = await asyncio.to_thread(sentinel.fail_over)
        await asyncio.to_thread(sentinel.until_all_follow, master)
        await operate("after")
        await receiver.until(2)


async def test_a_drain_goes_on_when_a_master_of_a_cluster_dies_and_when_slots_move(
    tmp_path: Path, cluster: RedisCluster, receiver: Receiver
) -> None:
    provider = {"type": "webhook", "url": f"{receiver.url}/hook", "rate": "150/s", "burst": 1}
    config = write_config(tmp_path, cluster.url, {"hook": provider})
    await asyncio.to_thread(push, cluster.master_of("notifications").port, range(100))
    async with worker(config) as running:
        await receiver.until(30)
        # The lane and the queue each move to another master, key by key.
        masters = cluster.nodes[: cluster.masters]
        for key, other in (
            ("relay:{hook}:bodies", "notifications"),
            ("notifications", "relay:{hook}:bodies"),
        ):
            taken = [cluster.master_of(key), cluster.master_of(other)]
            target = next(node for node in masters if node not in taken)
            await asyncio.to_thread(cluster.move_slot, key, taken[0], target)
        await asyncio.to_thread(push, cluster.master_of("notifications").port, range(100, 200))
        await delivered(receiver, 130)
        lane = cluster.master_of("relay:{hook}:bodies")
        lane.kill()
        await asyncio.to_thread(cluster.until_healthy, lane)
        await asyncio.to_thread(push, cluster.master_of("notifications", lane).port, range(200, 300))
        numbers = await delivered(receiver, 300)
        client = open_client(cluster.url)
        try:
            async with asyncio.timeout(120):
                while await client.hlen("relay:{hook}:bodies") or await client.xlen("relay:{hook}:outbox"):
                    await asyncio.sleep(0.02)
            ends = {json.loads(text)["id"] for text in await client.lrange("receipts:ends", 0, -1)}
        finally:
            await client.aclose()
    assert set(numbers) == set(range(300))
    assert sum(numbers.values()) < 300 + 150
    assert ends == {f"m{number}" for number in range(300)}
    assert not [line for line in running.lines if "exception" in line]
