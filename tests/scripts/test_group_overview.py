"""The groups of a lane as operators see them, on every installed Redis and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.outcome import Delivered, Outcome, Retry, Throttled
from relay.store.claims import Claim
from relay.store.groups import Groups, GroupStatus, GroupTuning, read_group, read_groups
from relay.store.lane import Lane
from relay.store.overview import read_lane
from relay.store.pause import Pause
from relay.store.states import GroupState
from testing.builders import a_lane, a_message, options

HOUR, DAY = 3600.0, 86400.0


async def put(lane: Lane, plan: str, **fields: Any) -> None:
    """Enqueue one message for each letter, which is its group."""
    await lane.enqueue([a_message(group=group, **fields) for group in plan])


async def settle(lane: Lane, claims: Sequence[Claim], outcome: Outcome, **fields: Any) -> None:
    policy = Policy(options(**fields))
    await lane.settle([policy.settle(claim, outcome) for claim in claims])


async def groups_of(redis: Redis, lane: Lane, **tuning: int) -> Groups:
    return await read_groups(redis, lane.keys, time.time(), GroupTuning(**tuning))


def by_name(groups: Groups) -> dict[str, GroupStatus]:
    return {group.group: group for group in groups.found}


async def test_groups_are_listed_by_their_backlog_over_all_priorities(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 1})
    await put(lane, "aabbbc")
    await put(lane, "aa", priority="low")
    await put(lane, "c", priority="high")
    groups = await groups_of(redis, lane)
    assert [(group.group, group.waiting) for group in groups.found] == [("a", 4), ("b", 3), ("c", 2)]
    assert (groups.total, groups.complete) == (3, True)
    assert {group.state for group in groups.found} == {GroupState.RUNNING}


async def test_messages_in_flight_count_for_their_group(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 1})
    await put(lane, "aab")
    await lane.claim(10)
    groups = by_name(await groups_of(redis, lane))
    assert {name: (group.waiting, group.in_flight, group.state) for name, group in groups.items()} == {
        "a": (1, 1, GroupState.FULL),
        "b": (0, 1, GroupState.RUNNING),
    }
    assert groups["a"].why == "1 in flight"


async def test_the_age_of_a_group_is_that_of_its_oldest_message(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    before = time.time()
    await put(lane, "ab", priority="low")
    await put(lane, "a", priority="high")
    later = time.time() + HOUR
    group = by_name(await read_groups(redis, lane.keys, later))["a"]
    assert group.oldest == pytest.approx(HOUR, abs=time.time() - before + 0.1)
    await lane.claim(10)
    assert by_name(await read_groups(redis, lane.keys, later))["a"].oldest is None


async def test_the_oldest_message_may_have_any_priority(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    await put(lane, "a", priority="high")
    await put(lane, "b", priority="low")
    await put(lane, "a", priority="low")
    await put(lane, "b", priority="high")
    groups = by_name(await read_groups(redis, lane.keys, time.time() + HOUR))
    assert (groups["a"].oldest or 0) > (groups["b"].oldest or 0)


async def test_a_pause_that_has_ended_is_over_before_a_worker_notices(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    await put(lane, "a")
    await lane.pause_group("a", time.time() + HOUR)
    (group,) = (await read_groups(redis, lane.keys, time.time() + 2 * HOUR)).found
    assert (group.state, group.why, group.hold) == (GroupState.RUNNING, "", 0)
    await lane.pause(Pause(until=time.time() - HOUR))
    assert (await read_lane(redis, "relay", "test", [], time.time())).state == "running"


async def test_a_held_group_shows_its_reason_and_its_end(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"rate": "1/h", "burst": 3, "breaker": {"failures": 2}}}
    lane = a_lane(redis, **limits)
    await put(lane, "ttoollll")
    claims = list((await lane.claim(100)).claims)

    def of(group: str) -> list[Claim]:
        return [claim for claim in claims if claim.message.group == group]

    await settle(lane, of("t"), Throttled("429 slow down", HOUR), **limits)
    await settle(lane, of("o"), Retry("refused"), **limits)
    await settle(lane, of("l"), Delivered(), **limits)
    await lane.pause_group("p", time.time() + HOUR, "ann@ops1", "asked for it")
    groups = by_name(await groups_of(redis, lane))
    assert {name: group.state.value for name, group in groups.items()} == {
        "t": "throttled",
        "o": "open",
        "l": "limited",
        "p": "paused",
    }
    assert groups["t"].why == "429 slow down"
    assert groups["t"].hold == pytest.approx(HOUR, abs=60)
    assert groups["o"].why == "2 failures in a row: refused"
    assert groups["o"].failures == 2
    assert groups["p"].why.startswith("asked for it (ann@ops1, since 20")
    assert groups["p"].hold == pytest.approx(HOUR, abs=60)


async def test_a_group_that_has_failed_for_days_is_disabled(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}}
    lane = a_lane(redis, **limits)
    await put(lane, "aab")
    claims = list((await lane.claim(100)).claims)
    failing = [claim for claim in claims if claim.message.group == "a"]
    await settle(lane, failing[:1], Retry("refused"), **limits)
    key = lane.keys.part("groups")
    packed: Any = await redis.hget(key, "a")
    entry = msgspec.msgpack.decode(packed)
    await redis.hset(key, "a", msgspec.msgpack.encode({**entry, "since": entry["since"] - 6 * DAY * 1000}))
    await settle(lane, failing[1:], Retry("refused"), **limits)
    groups = await groups_of(redis, lane)
    (disabled,) = groups.in_state(GroupState.DISABLED)
    assert disabled.group == "a"
    assert disabled.why.startswith("nothing but failures since 20")
    assert [group.group for group in groups.failing()] == ["a"]
    assert await lane.resume_group("a")
    assert (await groups_of(redis, lane)).failing() == []


async def test_a_group_that_is_idle_can_be_read_and_paused(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    nothing = await read_group(redis, lane.keys, "a", time.time())
    assert (nothing.state, nothing.messages, nothing.oldest) == (GroupState.RUNNING, 0, None)
    await lane.pause_group("a")
    await put(lane, "ab")
    assert [claim.message.group for claim in (await lane.claim(10)).claims] == ["b"]
    paused = await read_group(redis, lane.keys, "a", time.time())
    assert (paused.state, paused.why, paused.waiting) == (GroupState.PAUSED, "by an operator", 1)
    assert await lane.resume_group("a")
    assert [claim.message.group for claim in (await lane.claim(10)).claims] == ["a"]


async def test_a_lane_without_groups_has_none(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    groups = await groups_of(redis, lane)
    assert (groups.total, list(groups.found), groups.complete) == (0, [], True)


async def test_the_largest_of_very_many_groups_are_found(redis: Redis) -> None:
    """And those that are in flight, and those that are held for the longest time."""
    lane = a_lane(redis, groups={"concurrency": 1, "rate": "1/d", "burst": 1})
    small = [a_message(group=f"small{number}") for number in range(600)]
    large = [a_message(group=f"large{number % 5}") for number in range(600)]
    for first in range(0, 600, 100):
        await lane.enqueue(small[first : first + 100])
        await lane.enqueue(large[first : first + 100])
    await lane.claim(100)
    await lane.pause_group("idle", time.time() + 90 * DAY)
    groups = await groups_of(redis, lane, names=20, sample=300, held=1)
    assert not groups.complete
    assert {group.group for group in groups.found[:5]} == {f"large{number}" for number in range(5)}
    assert groups.found[0].messages == 120
    assert by_name(groups)["idle"].state == GroupState.PAUSED
    assert len(groups.found) < 350
    assert groups.total >= 400


@pytest.mark.parametrize("name", ["", "a:b", "1:a:2", "\x1b[31m", "ü☃", "{other}", "x" * 128])
async def test_a_group_with_a_strange_name_is_found(redis: Redis, name: str) -> None:
    lane = a_lane(redis, groups={})
    await lane.enqueue([a_message(group=name or "(none)"), a_message(group="a")])
    assert by_name(await groups_of(redis, lane))[name or "(none)"].waiting == 1


async def test_an_entry_that_cannot_be_read_shows_it(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    await redis.hset(lane.keys.part("groups"), mapping={"a": b"\xc1", "b": msgspec.msgpack.encode([1])})
    groups = by_name(await groups_of(redis, lane))
    assert {group.why for group in groups.values()} == {"its state in Redis cannot be read"}


async def test_a_key_of_a_wrong_type_is_named(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    await put(lane, "a")
    await redis.set(lane.keys.part("groups:in-flight"), "text")
    groups = await groups_of(redis, lane)
    assert groups.error.startswith("HLEN relay:{test}:groups:in-flight: WRONGTYPE")
    await redis.delete(lane.keys.part("groups:in-flight"))
    await redis.set(lane.keys.part("waiting:low"), "text")
    assert "WRONGTYPE" in (await groups_of(redis, lane)).error
