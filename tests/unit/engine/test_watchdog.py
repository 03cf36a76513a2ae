"""Connections that look alive and return nothing are dropped, and stalls are reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from relay.engine.progress import Progress, Refused
from relay.engine.watchdog import Watchdog, WatchdogTuning
from relay.store.queue import Queue
from testing.redis_server import BLOCKING_TIMEOUT, RedisServer
from testing.tcp_proxy import proxying

CHECKS_PER_SCAN = 3


@dataclass
class AnIntake:
    """The parts of an intake that the watchdog reads."""

    queue: Queue
    progress: Progress


def an_intake(
    redis: Redis, *, silent: float = 0.0, waiting: bool = True, refused: Refused | None = None
) -> AnIntake:
    """An intake of the queue `q` to which Redis has not answered for `silent` seconds."""
    progress = Progress()
    progress.answered_at -= silent
    progress.waiting = waiting
    progress.refused = refused
    return AnIntake(Queue(redis, "relay", "q", "w1"), progress)


@pytest.fixture
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


def a_watchdog(
    redis: Redis,
    *intakes: Any,
    beat: float = 0.0,
    stall_threshold: float = 20,
    clock: Callable[[], float] = time.monotonic,
) -> Watchdog:
    """`beat`: how many seconds ago the last one was."""
    tuning = WatchdogTuning(checks_per_scan=CHECKS_PER_SCAN, stall_threshold=stall_threshold)
    return Watchdog(redis, intakes, lambda: clock() - beat, tuning=tuning, clock=clock)


async def test_progress_is_no_trouble(redis: Redis) -> None:
    watchdog = a_watchdog(redis, an_intake(redis))
    await watchdog.check()
    assert watchdog.troubles() == []
    assert watchdog.reconnections == 0


async def test_a_missing_heartbeat_is_a_trouble(redis: Redis) -> None:
    (trouble,) = a_watchdog(redis, beat=60).troubles()
    assert trouble == "no heartbeat for 60 s"


async def test_a_queue_without_an_answer_is_a_trouble(redis: Redis) -> None:
    intake = an_intake(redis, silent=30, waiting=False)
    assert a_watchdog(redis, intake).troubles() == ["queue q: no answer for 30 s"]


async def test_a_longer_wait_for_elements_is_no_trouble_until_it_is_over(redis: Redis) -> None:
    intake = an_intake(redis, silent=30)
    intake.progress.longer_wait = 15
    assert a_watchdog(redis, intake).troubles() == []
    intake.progress.longer_wait = 5
    assert a_watchdog(redis, intake).troubles() == ["queue q: no answer for 30 s"]


async def test_a_queue_that_redis_refuses_is_trouble_that_new_connections_do_not_help(redis: Redis) -> None:
    refused = Refused(time.monotonic() - 30, "take: WRONGTYPE")
    watchdog = a_watchdog(redis, an_intake(redis, refused=refused))
    await watchdog.check()
    assert watchdog.troubles() == ["queue q: Redis refuses it for 30 s: take: WRONGTYPE"]
    assert watchdog.reconnections == 0
    assert a_watchdog(redis, an_intake(redis, refused=refused), stall_threshold=60).troubles() == []


async def test_a_queue_that_fills_while_nothing_is_fetched_is_a_trouble_until_the_next_fetch(
    redis: Redis,
) -> None:
    intake = an_intake(redis)
    watchdog = a_watchdog(redis, intake, stall_threshold=0.5)
    await redis.rpush("q", "waits")
    await watchdog.check()
    troubles: list[str] = []
    async with asyncio.timeout(120):
        while not troubles:
            await asyncio.sleep(0.01)
            intake.progress.note_answer()
            troubles = watchdog.troubles()
    assert [trouble.partition(" for")[0] for trouble in troubles] == ["queue q: elements wait"]
    intake.progress.fetched += 1
    for _ in range(CHECKS_PER_SCAN):
        await watchdog.check()
    intake.progress.note_answer()
    assert watchdog.troubles() == []


async def test_a_connection_that_is_silent_is_dropped_and_the_next_one_works(
    redis: Redis, redis_server: RedisServer
) -> None:
    """The host that it leads to is gone without a word; a new connection leads elsewhere."""
    async with (
        proxying(redis_server.port) as proxy,
        Redis.from_url(proxy.url, protocol=2, socket_timeout=BLOCKING_TIMEOUT) as client,
    ):
        now = 0.0
        watchdog = a_watchdog(client, beat=60, clock=lambda: now)
        assert await client.ping()
        proxy.lose_answers()
        silent: asyncio.Future[Any] = asyncio.ensure_future(client.ping())
        await asyncio.sleep(0.01)  # the ping is on its way
        now = 21.0
        await asyncio.wait_for(watchdog.check(), 120)
        assert watchdog.reconnections == 1
        with pytest.raises((RedisError, OSError)):
            await silent
        proxy.heal()
        assert await client.ping()
        await watchdog.check()
        assert watchdog.reconnections == 1, "once for each time the threshold passes"
