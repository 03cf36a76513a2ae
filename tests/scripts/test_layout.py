"""The layout version of a lane, on every installed Redis and on a cluster."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from relay.errors import UsageError
from relay.store import layout
from relay.store.keys import LaneKeys
from relay.store.lane import Lane
from testing.builders import a_lane, a_message


def control(provider: str) -> str:
    return LaneKeys.of("relay", provider).part("control")


async def test_a_new_lane_gets_the_layout_of_this_version(redis: Redis) -> None:
    await layout.mark(redis, "relay", ["a", "b"])
    assert [await redis.hget(control(name), "layout") for name in ("a", "b")] == [b"1", b"1"]


async def test_a_lane_with_messages_keeps_them(redis: Redis) -> None:
    lane: Lane = a_lane(redis)
    await lane.enqueue([a_message()])
    await layout.mark(redis, "relay", [lane.provider])
    assert await lane.size() == 1
    assert await redis.hget(control(lane.provider), "layout") == b"1"


async def test_a_newer_layout_is_refused_and_stays(redis: Redis) -> None:
    await redis.hset(control("b"), "layout", "2")
    with pytest.raises(UsageError, match=r"newer version of relay has written these lanes: b \(2\)"):
        await layout.mark(redis, "relay", ["a", "b"])
    assert await redis.hget(control("b"), "layout") == b"2"
    assert await redis.exists(control("a")) == 0


@pytest.mark.parametrize("text", [b"", b"x", b"-3", b"\xff", b"1.5"])
async def test_an_unreadable_layout_is_replaced(redis: Redis, text: bytes) -> None:
    await redis.hset(control("a"), "layout", text)
    await layout.mark(redis, "relay", ["a"])
    assert await redis.hget(control("a"), "layout") == b"1"


async def test_a_control_key_of_a_wrong_type_is_left_to_its_lane(redis: Redis) -> None:
    await redis.set(control("a"), "something else")
    await layout.mark(redis, "relay", ["a", "b"])
    assert await redis.get(control("a")) == b"something else"
    assert await redis.hget(control("b"), "layout") == b"1"
