"""Orders to single workers, and their published vitals, on every installed Redis and on a cluster."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from relay.errors import UsageError
from relay.operations import workers
from relay.settings.models import QueueSettings, Settings
from relay.store import audit, ended_sessions
from relay.store.fleet import LEASE, Fleet, WorkerInfo
from relay.store.keys import FleetKeys, LaneKeys, QueueKeys
from relay.store.overview import read_overview
from relay.store.queue_head import LONGEST, read_head
from relay.store.vitals import Duty, QueueFlow, Vitals
from testing.builders import options

SETTINGS = Settings(
    queues=[QueueSettings(name="notifications", provider="test")], providers={"test": options()}
)
ORDER: dict[str, Any] = {"because": "a new kernel", "who": "ada@web-1"}


def info(name: str, **vitals: Any) -> WorkerInfo:
    return WorkerInfo(
        name,
        "web-1",
        "host",
        4711,
        "0.1.0",
        time.time(),
        lanes=("test",),
        queues=("notifications",),
        settings="s",
        vitals=Vitals(cpu=0.5, memory=1, in_flight=2, **vitals),
    )


async def falls_silent(redis: Redis, worker: str) -> None:
    old = (time.time() - LEASE - 5) * 1000
    await redis.zadd(FleetKeys("relay").workers, {worker: old})


async def test_a_worker_gets_its_order_with_a_heartbeat_and_serves_nothing_until_it_ends(
    redis: Redis,
) -> None:
    fleet = Fleet(redis, "relay")
    await fleet.heartbeat(info("web-1-4711-aa"))
    assert fleet.drain_order is None
    await workers.drain_worker(redis, SETTINGS, "web-1-4711", **ORDER)
    await fleet.heartbeat(info("web-1-4711-aa", duty=Duty.DRAINED))
    assert fleet.drain_order is not None
    assert (fleet.drain_order.by, fleet.drain_order.reason) == ("ada@web-1", "a new kernel")
    overview = await read_overview(redis, SETTINGS)
    assert [lane.served for lane in overview.lanes] == [queue.served for queue in overview.queues] == [False]
    await workers.resume_worker(redis, SETTINGS, "web-1-4711-aa", **ORDER)
    await fleet.heartbeat(info("web-1-4711-aa"))
    assert fleet.drain_order is None
    assert (await read_overview(redis, SETTINGS)).queues[0].served
    entries = [(entry.action, entry.why) for entry in await audit.read(redis, "relay")]
    why = "web-1-4711-aa: a new kernel"
    assert entries == [("drain-end", why), ("drain", why)]
    with pytest.raises(UsageError, match="is not drained"):
        await workers.resume_worker(redis, SETTINGS, "web-1-4711-aa", **ORDER)


async def test_an_order_that_reaches_nobody_is_refused(redis: Redis) -> None:
    fleet = Fleet(redis, "relay")
    with pytest.raises(UsageError, match="none is known"):
        await workers.drain_worker(redis, SETTINGS, "web-1", **ORDER)
    await fleet.heartbeat(info("web-1-1-aa"))
    await fleet.heartbeat(msgspec.structs.replace(info("web-1-2-bb"), vitals=None))
    for name, reason in {
        "web-1": "write the whole name",
        "": "known: web-1-1-aa, web-1-2-bb",
        "web-9": "no worker",
        "web-1-2": "which cannot be drained",
    }.items():
        with pytest.raises(UsageError, match=reason):
            await workers.drain_worker(redis, SETTINGS, name, **ORDER)
    await falls_silent(redis, "web-1-1-aa")
    with pytest.raises(UsageError, match="sends no heartbeats"):
        await workers.drain_worker(redis, SETTINGS, "web-1-1", **ORDER)
    assert await audit.read(redis, "relay") == []


async def test_a_worker_is_dismissed_only_if_it_is_silent_and_holds_nothing(redis: Redis) -> None:
    fleet = Fleet(redis, "relay")
    await fleet.heartbeat(info("w1"))
    with pytest.raises(UsageError, match="is alive"):
        await workers.dismiss_worker(redis, SETTINGS, "w1", **ORDER)
    await falls_silent(redis, "w1")
    await redis.hset(LaneKeys.of("relay", "test").inflight("w1"), "4", "1")
    processing = QueueKeys.of("relay", "notifications").processing("w1")
    await redis.rpush(processing, "{}")
    with pytest.raises(UsageError, match="still holds 1 message and 1 element: a living worker"):
        await workers.dismiss_worker(redis, SETTINGS, "w1", **ORDER)
    await redis.delete(LaneKeys.of("relay", "test").inflight("w1"))
    await redis.delete(processing)
    await workers.dismiss_worker(redis, SETTINGS, "w1", **ORDER)
    overview = await read_overview(redis, SETTINGS)
    assert (overview.workers, overview.lost) == ([], [])
    with pytest.raises(UsageError, match="no worker"):
        await workers.dismiss_worker(redis, SETTINGS, "w1", **ORDER)
    # A worker that was only frozen is a member again.
    await fleet.heartbeat(info("w1"))
    assert [member.info.worker for member in (await read_overview(redis, SETTINGS)).alive] == ["w1"]


async def test_the_flow_of_a_queue_is_that_of_all_workers(redis: Redis) -> None:
    fleet = Fleet(redis, "relay")
    await fleet.heartbeat(info("w1", queues={"notifications": QueueFlow(2.5, 30, 3)}))
    await fleet.heartbeat(info("w2", queues={"notifications": QueueFlow(1.0, 10, 1)}))
    (queue,) = (await read_overview(redis, SETTINGS)).queues
    assert (queue.flow.per_second, queue.malformed_share) == (3.5, 0.1)


async def test_the_first_elements_of_a_queue_are_cut_in_redis(redis: Redis) -> None:
    keys = QueueKeys.of("relay", "notifications")
    await redis.rpush("notifications", *(json.dumps(number) for number in range(20)))
    await redis.rpush(keys.staged, "x" * (LONGEST + 1))
    await redis.hset(keys.deferred, "test", "1")
    await redis.rpush(keys.deferred_for("test"), "deferred")
    head = await read_head(redis, "relay", "notifications")
    assert [element.deferred for element in head] == [True] + [False] * 9
    assert (head[1].size, len(head[1].beginning), head[1].is_cut) == (LONGEST + 1, LONGEST, True)
    assert [element.beginning for element in head[2:]] == [b"%d" % number for number in range(8)]


async def test_ended_sessions_are_forgotten_at_their_natural_end_and_beyond_a_number(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_sessions, "MOST", 2)
    now = int(time.time())
    for name, until in {"over": now - 1, "first": now + 60, "second": now + 90, "third": now + 80}.items():
        await ended_sessions.end(redis, "relay", name, until)
    found = {
        name: await ended_sessions.has_ended(redis, "relay", name)
        for name in ("over", "first", "second", "third", "other")
    }
    assert found == {"over": False, "first": False, "second": True, "third": True, "other": False}
    assert 0 < await redis.ttl(FleetKeys("relay").ended_sessions) <= 86_400
