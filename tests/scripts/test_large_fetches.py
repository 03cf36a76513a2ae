"""Fetches of large elements bypass Redis's Lua, and nothing else differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.message import LARGE
from relay.redis_client.client import Client
from relay.redis_client.connect import open_client
from relay.store import dead
from relay.store.queue import FETCH_BYTES, Ack, Limits, Queue, push_all
from testing.redis_cluster import RedisCluster
from testing.redis_server import RedisServer

LIMITS = Limits(max_size=FETCH_BYTES, longest=FETCH_BYTES, with_targets=2 * FETCH_BYTES)


def a_queue(redis: Client, worker: str = "w1") -> Queue:
    return Queue(redis, "relay", "q", worker, LIMITS)


def elements(count: int, size: int = LARGE, first: int = 0) -> list[bytes]:
    return [b"%05d" % number + size * b"x" for number in range(first, first + count)]


async def fetch_all(queue: Queue, most: int = 10) -> list[Sequence[bytes]]:
    """Fetch and acknowledge until nothing is left. Returns the elements of each fetch."""
    found, done = [], Ack("")
    while (batch := await queue.fetch(done, most=most)).elements:
        found.append(batch.elements)
        done = Ack(batch.sequence)
    return found


async def test_large_elements_come_once_and_in_their_order(redis: Client) -> None:
    pushed = elements(35)
    await push_all(redis, "q", pushed)
    found = await fetch_all(a_queue(redis))
    assert [len(batch) for batch in found] == [10, 10, 10, 5]
    assert [element for batch in found for element in batch] == pushed
    assert await a_queue(redis).holders() == []


async def test_a_fetch_of_large_elements_is_bounded_by_bytes(redis: Client) -> None:
    pushed = [*elements(4, FETCH_BYTES // 8), *elements(4, FETCH_BYTES // 2, first=4), *elements(20, first=8)]
    await push_all(redis, "q", pushed)
    found = await fetch_all(a_queue(redis), most=4)
    assert [element for batch in found for element in batch] == pushed
    assert max(sum(map(len, batch)) for batch in found) < FETCH_BYTES * 1.3


async def test_an_element_above_the_limit_never_leaves_redis(redis: Client) -> None:
    pushed = elements(20)
    await push_all(redis, "q", [*pushed[:15], 2 * FETCH_BYTES * b"x", *pushed[15:]])
    found = await fetch_all(a_queue(redis), most=10)
    assert [element for batch in found for element in batch] == pushed
    letters = [letter async for letter in dead.read(redis, a_queue(redis).keys.rejected)]
    assert [letter.reason.split(";")[0] for letter in letters] == [f"{2 * FETCH_BYTES} bytes"]


async def test_a_fetch_of_large_elements_whose_reply_is_lost_is_returned_again(redis: Client) -> None:
    await push_all(redis, "q", elements(30))
    queue = a_queue(redis)
    first = await queue.fetch(most=10)
    second = await queue.fetch(Ack(first.sequence), most=10)
    assert (await queue.fetch(Ack(first.sequence), most=10)) == second
    assert (await a_queue(redis).fetch(most=10)) == second, "the next process of this name finds it, too"
    assert second.elements == elements(10, first=10)


async def test_a_staged_element_goes_before_large_ones(redis: Client) -> None:
    await push_all(redis, "q", elements(30))
    queue = a_queue(redis)
    first = await queue.fetch(most=10)
    assert await a_queue(redis, "w2").waits.next(1)
    second = await queue.fetch(Ack(first.sequence), most=10)
    assert second.elements == elements(10, first=10)


async def test_large_fetches_of_two_workers_have_different_numbers(redis: Client) -> None:
    await push_all(redis, "q", elements(60))
    one, two = a_queue(redis), a_queue(redis, "w2")
    done: dict[Queue, Ack] = {one: Ack(""), two: Ack("")}
    numbers, found = list[int](), list[bytes]()
    for queue in (one, two, one, two, one, two):
        batch = await queue.fetch(done[queue], most=10)
        done[queue] = Ack(batch.sequence)
        numbers.append(int(batch.sequence))
        found += batch.elements
        assert batch.preceding == (0 if len(numbers) == 1 else 1)
    assert numbers == sorted(set(numbers))
    assert found == elements(60)


async def test_a_queue_that_is_no_list_any_more_loses_nothing(redis: Client) -> None:
    await push_all(redis, "q", elements(10))
    queue = a_queue(redis)
    batch = await queue.fetch(most=10)
    await redis.delete("q")
    await redis.sadd("q", "member")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await queue.fetch(Ack(batch.sequence), most=10)
    await redis.delete("q")
    assert (await queue.fetch(most=10)).elements == batch.elements


async def test_a_full_redis_still_hands_out_large_elements(redis: Client) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("CONFIG SET reaches one node")
    await push_all(redis, "q", elements(30))
    await redis.config_set("maxmemory", 1)
    try:
        assert [len(batch) for batch in await fetch_all(a_queue(redis))] == [10, 10, 10]
    finally:
        await redis.config_set("maxmemory", 0)


@pytest.mark.parametrize("missing", ["-sort", "-memory", "-multi"])
async def test_a_user_with_fewer_rights_fetches_large_elements_too(
    redis: Client, server: RedisServer | RedisCluster, missing: str
) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("the same on each node")
    await redis.execute_command("ACL", "SETUSER", "few", "on", ">word", "~*", "&*", "+@all", missing)
    try:
        client: Any = open_client(server.url.replace("redis://", "redis://few:word@"))
        await push_all(redis, "q", elements(30))
        found = await fetch_all(a_queue(client))
        assert [element for batch in found for element in batch] == elements(30)
        await client.aclose()
    finally:
        await redis.execute_command("ACL", "DELUSER", "few")
