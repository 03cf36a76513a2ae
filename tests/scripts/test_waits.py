"""The wait for an element that goes out together with a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.store.lane import Lane
from relay.store.queue import Queue
from testing.builders import a_lane, plain_message


@pytest.fixture
async def queue(redis: Redis) -> AsyncIterator[Queue]:
    """A queue whose waits begin with a script, and last longer than the test."""
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster the queue and the lane may lie on two nodes")
    queue = Queue(redis, "relay", "q", "w1")
    queue.waits.early = 600
    yield queue
    await queue.waits.close()


@pytest.fixture
def lane(redis: Redis) -> Lane:
    return a_lane(redis)


async def take(redis: Redis, queue: Queue, lane: Lane, text: str = "a") -> int | None:
    """Push an element, wait for it and take it. Returns how many are left."""
    await redis.rpush("q", text)
    assert await queue.waits.next(600) == text.encode()
    taken = await lane.take(plain_message(text), queue, text.encode())
    return None if taken is None else taken.left


async def commands(redis: Redis) -> dict[str, int]:
    """Return how often each command has run."""
    stats = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}


async def test_the_wait_begins_with_the_script(redis: Redis, queue: Queue, lane: Lane) -> None:
    assert await take(redis, queue, lane) == 0
    await redis.rpush("q", "b")
    # Redis moves it before it is asked for.
    assert await redis.lrange(queue.keys.staged, 0, -1) == [b"b"]
    assert await queue.waits.next(600) == b"b"


async def test_each_element_costs_one_wait(redis: Redis, queue: Queue, lane: Lane) -> None:
    await take(redis, queue, lane)  # loads the script, and begins to wait
    await redis.config_resetstat()
    for number in range(5):
        assert await take(redis, queue, lane, str(number)) == 0
    ran = await commands(redis)
    assert (ran["blmove"], ran["evalsha"]) == (5, 5)


async def test_a_short_wait_leaves_the_long_one_in_progress(redis: Redis, queue: Queue, lane: Lane) -> None:
    await take(redis, queue, lane)
    for _ in range(2):
        assert await queue.waits.next(0.01) is None
    await redis.rpush("q", "b")
    assert await queue.waits.next(600) == b"b"


async def test_a_fetch_takes_an_element_that_has_come_meanwhile(
    redis: Redis, queue: Queue, lane: Lane
) -> None:
    await redis.rpush("q", "a", "b", "c")
    assert await queue.waits.next(600) == b"a"
    taken = await lane.take(plain_message("a"), queue, b"a")
    assert taken is not None
    assert taken.left == 2
    assert (await queue.fetch()).elements == [b"b", b"c"]
    await redis.rpush("q", "d")
    assert await queue.waits.next(600) == b"d"


async def test_an_element_that_another_worker_fetches_cannot_be_taken(
    redis: Redis, queue: Queue, lane: Lane
) -> None:
    await take(redis, queue, lane)
    await redis.rpush("q", "b")
    other = Queue(redis, "relay", "q", "w2")
    assert (await other.fetch()).elements == [b"b"]
    assert await queue.waits.next(600) == b"b"
    assert await lane.take(plain_message("b"), queue, b"b") is None


async def test_redis_gets_a_script_that_it_has_forgotten(redis: Redis, queue: Queue, lane: Lane) -> None:
    for text in "ab":
        await redis.script_flush()
        assert await take(redis, queue, lane, text) == 0


async def test_a_script_that_fails_leaves_the_element_and_the_wait(
    redis: Redis, queue: Queue, lane: Lane
) -> None:
    await redis.set(lane.keys.part("control"), "of another type")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await take(redis, queue, lane)
    await redis.rpush("q", "b")
    assert await queue.waits.next(600) == b"b"
    assert (await queue.fetch()).elements == [b"a", b"b"]


async def test_a_lost_connection_is_an_error_once(redis: Redis, queue: Queue, lane: Lane) -> None:
    await take(redis, queue, lane)
    (waiting,) = [client for client in await redis.client_list() if client["cmd"] == "blmove"]
    await redis.client_kill_filter(_id=waiting["id"])
    with pytest.raises(StoreError, match="BLMOVE"):
        await queue.waits.next(600)
    assert await take(redis, queue, lane, "b") == 0


@pytest.mark.parametrize("seconds", [0.01, 600], ids=["short", "long"])
async def test_a_cancelled_wait_moves_no_element(
    redis: Redis, queue: Queue, lane: Lane, seconds: float
) -> None:
    await take(redis, queue, lane)
    await cancel(asyncio.create_task(queue.waits.next(seconds)))
    await nothing_moves(redis)


async def test_a_cancelled_script_moves_no_element_later(redis: Redis, queue: Queue, lane: Lane) -> None:
    await redis.rpush("q", "a")
    assert await queue.waits.next(600) == b"a"
    await cancel(asyncio.create_task(lane.take(plain_message("a"), queue, b"a")))
    await nothing_moves(redis)


async def cancel(task: asyncio.Task[object]) -> None:
    """Cancel a task in its first wait."""
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def nothing_moves(redis: Redis) -> None:
    """Wait until Redis has seen the end of the connection, and push an element."""
    async with asyncio.timeout(120):
        while (await redis.info("clients"))["blocked_clients"]:
            await asyncio.sleep(0.005)
    await redis.rpush("q", "b")
    assert await redis.lrange("q", 0, -1) == [b"b"]
