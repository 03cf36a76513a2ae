"""Keys with many fields are tables, in which Redis finds a field without a search."""

from __future__ import annotations

from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.outcome import Delivered
from testing.builders import a_lane, options, plain_message
from tests.scripts.test_groups import messages

MANY = "abcdefghijklmnopqrstuvwxyz"


async def encoding(redis: Redis, key: str) -> str:
    return str(await redis.execute_command("OBJECT", "ENCODING", key)).strip("b'")


async def test_the_leases_of_a_large_claim_are_a_table(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("x") for _ in range(40)])
    claimed = await lane.claim(40)
    key = lane.keys.inflight("w1")
    assert await encoding(redis, key) == "hashtable"
    assert set(await redis.hkeys(key)) == {claim.ticket.encode() for claim in claimed.claims}
    assert claimed.held == 40


async def test_the_counts_of_many_groups_are_a_table(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 5})
    await lane.enqueue(messages(2 * MANY))
    claims = (await lane.claim(len(MANY))).claims
    key = lane.keys.part("groups:in-flight")
    assert await encoding(redis, key) == "hashtable"
    assert await redis.hgetall(key) == {name.encode(): b"1" for name in MANY}
    policy = Policy(options())
    await lane.settle([policy.settle(claim, Delivered()) for claim in claims])
    assert not await redis.exists(key)


async def test_the_rotation_of_many_groups_is_a_table(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 5})
    await lane.enqueue(messages(MANY))
    key = lane.keys.part("rotation:normal")
    assert await encoding(redis, key) == "skiplist"
    assert await redis.zrange(key, 0, -1) == [name.encode() for name in MANY]
