"""Groups in trouble: hostile names, options that change, clocks that go back, and storms."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.outcome import Delivered, Outcome, Retry, Throttled
from relay.store.claims import Claim
from relay.store.codec import Settled
from relay.store.lane import Lane
from testing.builders import a_lane, a_message, options, plain_message, texts
from testing.clock import set_clock, settable_clock
from testing.streams import entries_of

HOUR = 3600.0
NOW = 2_000_000_000

HOSTILE = (
    "a", "a:", ":", "::", "1", "1:a:", "1:a:0000000000000001", "0000000000000001", "9" * 16, " ", "  ",
    "\0", "\0\0", "a\0", "\n", "a\nb", "%d+", "(", "[", "-", "+", "(none)", "\x7f", "\x80", "ÿ",
    "\U0010ffff", "é" * 128, "x" * 128, "x" * 127, "0" * 128, "16:aaaaaaaaaaaaaaaa:", "token 1",
    "'); --", "\\", "\r\n",
)  # fmt: skip


async def settle(lane: Lane, claims: list[Claim], outcome: Outcome, **fields: Any) -> Settled:
    policy = Policy(options(**fields))
    return await lane.settle([policy.settle(claim, outcome) for claim in claims])


def groups(claims: list[Claim]) -> list[str]:
    return [claim.message.group for claim in claims]


async def claim_all(lane: Lane, most: int = 100) -> list[Claim]:
    """Everything that may go now."""
    out: list[Claim] = []
    for _ in range(1000):
        claimed = await lane.claim(most)
        out += claimed.claims
        if claimed.reason != "ok" and not claimed.claims:
            return out
    raise AssertionError("claims do not end")


@pytest.mark.parametrize("make", [a_message, plain_message])
async def test_hostile_names_of_groups_are_groups_like_others(redis: Redis, make: Any) -> None:
    limits: dict[str, Any] = {"groups": {"concurrency": 2, "max_backlog": 5}}
    lane, other = a_lane(redis, **limits), a_lane(redis, worker="w2", **limits)
    for number in range(5):
        items = [make(f"{place}-{number}", group=name) for place, name in enumerate(HOSTILE)]
        assert (await lane.enqueue(items)).dropped == 0
    assert (await lane.enqueue([make("more", group="1:a:")])).dropped == 1
    delivered: list[Claim] = []
    while True:
        first, second = await claim_all(lane), await claim_all(other)
        if not first and not second:
            break
        assert max(Counter(groups([*first, *second])).values()) <= 2
        await other.recover("w1")
        again = await claim_all(other)
        assert Counter(groups(again)) == Counter(groups(first))
        await settle(other, [*second, *again], Delivered(), **limits)
        delivered += [*second, *again]
    assert Counter(groups(delivered)) == dict.fromkeys(HOSTILE, 5)
    for name in HOSTILE:
        found = [text for text in texts(delivered) if text.startswith(f"{HOSTILE.index(name)}-")]
        assert found == sorted(found)
    left = {key for key in lane.keys.types if await redis.exists(key)}
    assert left <= {"relay:{test}:control", "relay:{test}:journal"}


async def test_hostile_names_of_groups_are_held_and_resumed(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"concurrency": 0}}
    lane = a_lane(redis, **limits)
    await lane.enqueue([plain_message(f"{place}", group=name) for place, name in enumerate(HOSTILE)])
    claims = list((await lane.claim(100)).claims)
    settled = await settle(lane, claims, Throttled("slow", HOUR), **limits)
    assert sorted(change.group for change in settled.groups) == sorted(HOSTILE)
    await lane.resume()  # all groups are throttled, so the lane holds as well
    assert await claim_all(lane) == []
    for name in HOSTILE:
        assert await lane.resume_group(name)
        (claim,) = await claim_all(lane)
        assert claim.message.group == name


async def test_delayed_messages_of_groups_go_out_after_groups_are_switched_off(redis: Redis) -> None:
    with settable_clock():
        await set_clock(redis, NOW)
        lane, without = a_lane(redis, groups={"concurrency": 1}), a_lane(redis)
        await lane.enqueue([a_message(f"a{n}", group="a", deliver_at=NOW + 1.0) for n in range(5)])
        await set_clock(redis, NOW + 2)
        first = list((await lane.claim(10)).claims)
        assert texts(first) == ["a0"]
        await settle(lane, first, Delivered())
        assert texts(await claim_all(without)) == ["a1", "a2", "a3", "a4"]


async def test_a_group_of_which_half_of_the_messages_fail_is_held(redis: Redis) -> None:
    """Although a success comes between all failures."""
    lane = a_lane(redis, groups={"breaker": {"failures": 5, "share": 0.5}})
    await lane.enqueue([plain_message(f"{number}", group="a") for number in range(20)])
    for number in range(1, 20):
        outcome = Delivered() if number % 2 else Retry("HTTP 500", after=HOUR)
        settled = await settle(lane, list((await lane.claim(1)).claims), outcome)
        if settled.groups:
            break
    assert (number, settled.groups[0].state) == (12, "open")
    assert settled.groups[0].reason == "6 of 11 deliveries failed: HTTP 500"


async def test_a_disabled_group_with_a_backlog_keeps_no_claim_long(redis: Redis) -> None:
    """One claim makes few dead letters, with any number of disabled groups."""
    limits: dict[str, Any] = {
        "groups": {"disable_after": 10.0, "concurrency": 0},
        "breaker": {"failures": 1000},
    }
    with settable_clock():
        await set_clock(redis, NOW)
        lane = a_lane(redis, **limits)
        names = [f"g{n}" for n in range(60)]
        await lane.enqueue([plain_message("first", group=name) for name in names])
        claims = list((await lane.claim(100)).claims)
        await settle(lane, claims[:60], Retry("refused", after=HOUR), **limits)
        await set_clock(redis, NOW + 11)
        await lane.enqueue([plain_message("second", group=name) for name in names])
        await settle(lane, list((await lane.claim(100)).claims), Retry("refused", after=HOUR), **limits)
        await lane.enqueue([plain_message("x", group=name) for name in names for _ in range(30)])
        await lane.enqueue([plain_message("healthy", group="h") for _ in range(30)])
        most, out = 0, 0
        for _ in range(200):
            before = len(await entries_of(redis, "relay:{test}:dead"))
            claimed = await lane.claim(100)
            out += len(claimed.claims)
            most = max(most, len(await entries_of(redis, "relay:{test}:dead")) - before)
            if claimed.reason != "ok":
                break
        assert len(await entries_of(redis, "relay:{test}:dead")) == 60 * 30
        assert out == 30
        assert most <= 40


async def test_a_group_without_a_token_comes_back_although_the_clock_was_set_back(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"rate": "1/s", "burst": 1, "concurrency": 0}}
    with settable_clock():
        await set_clock(redis, NOW)
        lane = a_lane(redis, **limits)
        await lane.enqueue([plain_message("x", group=name) for name in "aab"])
        assert groups(await claim_all(lane)) == ["a", "b"]
        await set_clock(redis, NOW - 5 * 3600)
        await lane.claim(10)
        await set_clock(redis, NOW - 5 * 3600 + 2)
        assert groups(await claim_all(lane)) == ["a"]


async def test_the_lane_opens_if_all_groups_fail_while_more_of_their_messages_are_in_flight(
    redis: Redis,
) -> None:
    limits: dict[str, Any] = {"groups": {"breaker": {"failures": 100}}, "breaker": {"failures": 5}}
    lane = a_lane(redis, **limits)
    await lane.enqueue([plain_message("x", group=name) for name in "abcdefgh" for _ in range(3)])
    claims = list((await lane.claim(100)).claims)
    first = [next(claim for claim in claims if claim.message.group == name) for name in "abcdefgh"]
    settled = await settle(lane, first, Retry("refused", after=HOUR), **limits)
    assert settled.state == "open"


async def test_ready_messages_of_a_single_group_are_counted(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    assert (await lane.enqueue([plain_message("x", group="a") for _ in range(500)])).ready == 500


async def test_a_settle_reports_that_a_group_from_earlier_options_may_continue(redis: Redis) -> None:
    lane, without = a_lane(redis, groups={"concurrency": 1}), a_lane(redis)
    await lane.enqueue([plain_message("x", group="a") for _ in range(3)])
    claims = list((await lane.claim(10)).claims)
    assert (await without.claim(10)).claims == []
    settled = await settle(without, claims, Delivered())
    assert settled.ready > 0


async def test_a_claim_is_not_repeated_while_groups_that_hang_use_their_share(
    redis: Redis,
) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    await lane.enqueue([plain_message("x", group=name) for name in "abcdefgh" for _ in range(100)])
    held, claimed = 0, await lane.claim(64, 40)
    while claimed.claims:
        held += len(claimed.claims)
        claimed = await lane.claim(64 - held, 40)
    assert 40 <= held < 64
    assert claimed.wait is None, "the next settle frees a slot"


async def test_a_claim_is_not_repeated_while_the_lane_is_open(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"breaker": {"failures": 50}}, "breaker": {"failures": 5}}
    lane = a_lane(redis, **limits)
    await lane.enqueue([plain_message("x", group=name) for name in "abcdefgh" for _ in range(5)])
    claims = list((await lane.claim(8)).claims)
    assert (await settle(lane, claims, Retry("refused", after=HOUR), **limits)).state == "open"
    claimed = await lane.claim(64, 40)
    assert claimed.claims == []
    assert claimed.wait is not None
    assert claimed.wait > 1
    await lane.enqueue([plain_message("x", group="fresh")])
    assert groups(list((await lane.claim(64, 40)).claims)) == ["fresh"]


async def test_a_waiting_group_is_served_although_others_have_no_messages(redis: Redis) -> None:
    """Messages that expired, wait for an ordering key, are delayed or were cancelled keep no turn."""
    lane = a_lane(redis, groups={"concurrency": 1})
    await lane.enqueue(
        [
            a_message("expired", group="a", expires_at=1.0),
            a_message("first", group="b", ordering_key="k"),
            a_message("blocked", group="c", ordering_key="k"),
            a_message("delayed", group="d", deliver_at=time.time() + HOUR),
            a_message("cancelled", group="e"),
            *(a_message(f"f{number}", group="f") for number in range(3)),
            a_message("low", group="g", priority="low"),
        ]
    )
    assert await lane.cancel("cancelled", ["w1"]) == "cancelled"
    assert sorted(texts(await claim_all(lane, 5))) == ["f0", "first", "low"]


async def test_the_fields_of_groups_that_somebody_deletes_by_hand_stop_nothing(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"rate": "10/s", "burst": 1}}
    with settable_clock():
        await set_clock(redis, NOW)
        lane = a_lane(redis, **limits)
        await lane.enqueue([plain_message("x", group=f"g{n}") for n in range(90) for _ in range(2)])
        assert len(await claim_all(lane)) == 90
        await redis.delete(lane.keys.part("groups"))
        await lane.enqueue([plain_message("x", group="new")])
        await set_clock(redis, NOW + 10)
        await claim_all(lane)
        assert await redis.zcount(lane.keys.part("groups:due"), "-inf", NOW * 1000) == 0


async def test_groups_that_are_held_stay_held_when_groups_are_switched_off_and_on(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"concurrency": 1}}
    with settable_clock():
        await set_clock(redis, NOW)
        lane, without, again = a_lane(redis, **limits), a_lane(redis), a_lane(redis, **limits)
        await lane.enqueue([plain_message(f"{name}{n}", group=name) for n in range(3) for name in "abc"])
        first = list((await lane.claim(10)).claims)
        await settle(lane, first[:1], Throttled("slow", 60.0), **limits)
        await lane.pause_group("b", NOW + 120.0)
        assert texts(await claim_all(without)) == []
        await settle(without, first[1:], Delivered())
        assert texts(await claim_all(without)) == ["c1", "c2"]
        await set_clock(redis, NOW + 61)
        assert texts(await claim_all(again)) == ["a1"]
        await set_clock(redis, NOW + 121)
        assert texts(await claim_all(again)) == ["b1"]
        assert texts(await claim_all(without)) == []
        await again.release()
        assert sorted(texts(await claim_all(without))) == ["a0", "a1", "a2", "b1", "b2", "c1", "c2"]


@pytest.mark.parametrize("entry", [b"\xc1garbage", b"\x05"])
async def test_a_group_whose_state_cannot_be_read_is_served_like_others(redis: Redis, entry: bytes) -> None:
    lane = a_lane(redis, groups={})
    await lane.enqueue([plain_message("x", group=name) for name in "abc"])
    await redis.hset(lane.keys.part("groups"), "b", entry)
    await lane.enqueue([a_message("y", group="b"), plain_message("z", group="b")])
    claims = await claim_all(lane)
    assert sorted(groups(claims)) == ["a", "b", "b", "b", "c"]
    ours = [claim for claim in claims if claim.message.group == "b"]
    await settle(lane, ours, Throttled("slow", HOUR), groups={})
    assert await claim_all(lane) == []
    assert await lane.resume_group("b")
    assert texts(await claim_all(lane)) == ["x", "y", "z"]
