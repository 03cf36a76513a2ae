"""Groups of a lane: fair turns, and limits of their own over the fleet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from providers.webhook import WebhookOptions
from relay.engine.policy import Policy
from relay.message import Message
from relay.message.fan_out import FanOut, split
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled
from relay.store.claims import Claim
from relay.store.codec import Settled
from relay.store.lane import Lane
from relay.store.overview import read_lane
from testing.builders import a_lane, a_message, options, plain_message, texts
from testing.clock import set_clock, settable_clock
from testing.streams import entries_of

HOUR = 3600.0


def messages(plan: str, **fields: Any) -> list[Message]:
    """One message for each letter, which is its group; its text is the letter and its place: a0, b1, …"""
    return [a_message(f"{group}{place}", group=group, **fields) for place, group in enumerate(plan)]


async def settle(lane: Lane, claims: list[Claim], outcome: Outcome, **fields: Any) -> Settled:
    policy = Policy(options(**fields))
    return await lane.settle([policy.settle(claim, outcome) for claim in claims])


def groups(claims: Sequence[Claim]) -> str:
    return "".join(claim.message.group for claim in claims)


async def test_groups_take_turns_with_any_backlog(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    await lane.enqueue(messages("aaaaaaaaaabbbc"))
    assert groups((await lane.claim(4)).claims) == "abca"
    assert groups((await lane.claim(3)).claims) == "bab"
    assert groups((await lane.claim(100)).claims) == "aaaaaaa"


async def test_a_group_that_comes_later_waits_one_round(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    await lane.enqueue(messages("aaaabbbb"))
    await lane.claim(1)
    await lane.enqueue(messages("c"))
    assert sorted(groups((await lane.claim(3)).claims)) == ["a", "b", "c"]


async def test_a_group_keeps_its_order(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    await lane.enqueue(messages("abababab"))
    out = texts((await lane.claim(3)).claims) + texts((await lane.claim(5)).claims)
    assert [text for text in out if text.startswith("a")] == ["a0", "a2", "a4", "a6"]
    assert [text for text in out if text.startswith("b")] == ["b1", "b3", "b5", "b7"]


async def test_lifo_hands_out_the_newest_of_each_group(redis: Redis) -> None:
    lane = a_lane(redis, order="lifo", groups={"concurrency": 0})
    await lane.enqueue(messages("aabb"))
    assert texts((await lane.claim(2)).claims) == ["a1", "b3"]


async def test_priorities_go_before_turns(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    await lane.enqueue(messages("aab", priority="normal"))
    await lane.enqueue(messages("cc", priority="high"))
    assert groups((await lane.claim(3)).claims) == "cca"


async def test_a_group_at_its_concurrency_waits_for_a_settle_of_any_worker(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"concurrency": 2}}
    one, two = a_lane(redis, worker="w1", **limits), a_lane(redis, worker="w2", **limits)
    await one.enqueue(messages("aaaaab"))
    claimed = await one.claim(10)
    first = claimed.claims
    assert (groups(list(first)), claimed.reason) == ("aba", "full")
    waiting = await two.claim(10)
    assert (waiting.claims, waiting.reason, waiting.wait) == ([], "empty", None)
    settled = await settle(one, [first[0]], Delivered(), **limits)
    assert settled.ready > 0
    assert texts((await two.claim(10)).claims) == ["a2"]


async def test_a_dead_worker_gives_its_places_back(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"concurrency": 2}}
    one, two = a_lane(redis, worker="w1", **limits), a_lane(redis, worker="w2", **limits)
    await one.enqueue(messages("aaaa"))
    assert len((await one.claim(10)).claims) == 2
    assert (await two.claim(10)).claims == []
    assert await two.recover("w1") == 2
    assert texts((await two.claim(10)).claims) == ["a0", "a1"]
    assert await redis.hgetall("relay:{test}:groups:in-flight") == {b"a": b"2"}


async def test_a_late_success_of_a_recovered_message_frees_no_place_twice(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"concurrency": 2}}
    one, two = a_lane(redis, worker="w1", **limits), a_lane(redis, worker="w2", **limits)
    await one.enqueue(messages("aaaa"))
    claims = list((await one.claim(10)).claims)
    await two.recover("w1")
    again = list((await two.claim(10)).claims)
    await settle(one, claims, Delivered(), **limits)
    assert await redis.hget("relay:{test}:groups:in-flight", "a") == b"2"
    await settle(two, again, Delivered(), **limits)
    assert await redis.exists("relay:{test}:groups:in-flight") == 0
    assert len((await two.claim(10)).claims) == 2


async def test_the_rate_of_a_group_holds_over_the_fleet(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"rate": "2/m", "burst": 2, "concurrency": 0}}
    one, two = a_lane(redis, worker="w1", **limits), a_lane(redis, worker="w2", **limits)
    await one.enqueue(messages("aaaaabb"))
    assert Counter(groups([*(await one.claim(3)).claims, *(await two.claim(10)).claims])) == {"a": 2, "b": 2}
    waiting = await two.claim(10)
    assert waiting.reason == "empty"
    assert waiting.wait is not None
    assert 25 < waiting.wait <= 30
    await one.enqueue(messages("c"))
    assert groups(list((await two.claim(10)).claims)) == "c"


async def test_a_group_without_a_token_comes_back_when_it_has_one(redis: Redis) -> None:
    with settable_clock():
        lane = a_lane(redis, groups={"rate": "1/s", "burst": 1})
        now = 2_000_000_000
        await set_clock(redis, now)
        await lane.enqueue(messages("aab"))
        assert groups(list((await lane.claim(10)).claims)) == "ab"
        await set_clock(redis, now + 1)
        assert texts((await lane.claim(10)).claims) == ["a1"]


async def test_a_throttled_group_holds_no_other(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("aaabbb"))
    claims = list((await lane.claim(2)).claims)
    settled = await settle(lane, claims[:1], Throttled("slow down", HOUR), **limits)
    assert settled.state == ""
    await settle(lane, claims[1:], Delivered(), **limits)
    assert groups(list((await lane.claim(10)).claims)) == "bb"
    held = await lane.claim(10)
    assert held.reason == "empty"
    assert held.wait == pytest.approx(HOUR, abs=60)


@pytest.mark.parametrize(
    ("order", "expected"), [("fifo", "a0 a1 a2 a0 a3 a1"), ("lifo", "a2 a3 a1 a0 a2 a1")]
)
async def test_a_throttled_message_lets_others_of_its_group_go_first(
    redis: Redis, order: str, expected: str
) -> None:
    """All of those that waited when the hold was over; a later one (a3) has no precedence in `fifo`."""
    limits: dict[str, Any] = {"groups": {"concurrency": 1}, "order": order}
    now, out = 2_000_000_000, list[str]()
    with settable_clock():
        await set_clock(redis, now)
        lane = a_lane(redis, **limits)
        await lane.enqueue(messages("aaa"))
        while len(out) < 6:
            now += 2
            await set_clock(redis, now)
            if len(out) == 1:
                await lane.enqueue([a_message("a3", group="a")])
            (claim,) = (await lane.claim(9)).claims
            out += texts([claim])
            is_throttled = out[-1] != "a3" and out.count(out[-1]) == 1
            await settle(lane, [claim], Throttled("slow", 1.0) if is_throttled else Delivered(), **limits)
    assert " ".join(out) == expected


async def test_three_throttled_groups_in_a_row_hold_the_lane_of_a_provider_that_serves_them_all(
    redis: Redis,
) -> None:
    with settable_clock():
        now = 2_000_000_000
        await set_clock(redis, now)
        limits: dict[str, Any] = {"groups": {}}
        lane = a_lane(redis, **limits)
        await lane.enqueue(messages("abcdefg"))
        a, b, c, d, e = (await lane.claim(5)).claims
        for claim, seconds in [(a, 30.0), (a, 30.0), (b, 90.0)]:
            assert (await settle(lane, [claim], Throttled("429", seconds), **limits)).state == ""
        settled = await settle(lane, [c], Throttled("429 too many", 60.0), **limits)
        assert (settled.state, settled.hold) == ("throttled", 90)
        assert settled.reason == "3 groups in a row were throttled: 429 too many"
        status = await read_lane(redis, "relay", "test", ["w1"], now)
        assert (status.state, status.totals["throttled"]) == ("throttled", 3)
        assert (await lane.claim(9)).reason == "throttled"
        await set_clock(redis, now + 90)
        assert groups(list((await lane.claim(1)).claims)) == "f"
        # Still with no delivery in between.
        settled = await settle(lane, [d], Throttled("429", 10.0), **limits)
        assert (settled.state, settled.hold) == ("throttled", 10)
        await settle(lane, [e], Delivered(), **limits)
        await set_clock(redis, now + 100)
        (claim,) = (await lane.claim(1)).claims
        assert (await settle(lane, [claim], Throttled("429", 10.0), **limits)).state == ""


async def test_a_delivery_between_throttled_groups_keeps_the_lane_going(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("abcdefg"))
    a, b, c, d, e, *_ = (await lane.claim(7)).claims
    busy = Throttled("429", HOUR)
    outcomes: list[tuple[Claim, Outcome]] = [(a, busy), (b, busy), (c, Delivered()), (d, busy), (e, busy)]
    for claim, outcome in outcomes:
        assert (await settle(lane, [claim], outcome, **limits)).state == ""
    await lane.resume()
    assert (await lane.claim(7)).reason == "empty"


async def test_throttled_groups_of_different_hosts_never_hold_the_lane(redis: Redis) -> None:
    for fields in ({"groups": {"by": "destination"}}, {"groups": {"by": "message"}}):
        policy = WebhookOptions(type="webhook", **fields)
        lane = Lane(redis, "relay", "hosts", policy, "w1")
        await lane.enqueue(messages("abcde"))
        claims = (await lane.claim(5)).claims
        settle_one = Policy(policy).settle
        settled = await lane.settle([settle_one(claim, Throttled("429", HOUR)) for claim in claims])
        assert settled.state == ""
        await redis.flushall()


async def test_messages_that_come_for_a_held_group_wait_with_it(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("a"))
    await settle(lane, list((await lane.claim(1)).claims), Throttled("slow down", HOUR), **limits)
    await lane.enqueue(messages("zaa")[1:])
    assert (await lane.claim(10)).claims == []
    assert await lane.resume_group("a")
    assert texts((await lane.claim(10)).claims) == ["a0", "a1", "a2"]


async def test_a_failing_group_opens_its_own_breaker(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"breaker": {"failures": 3}}, "breaker": {"failures": 3}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("aaaaabb"))
    claims = list((await lane.claim(7)).claims)
    failing = [claim for claim in claims if claim.message.group == "a"][:3]
    settled = await settle(lane, failing, Retry("refused"), **limits)
    assert settled.state == ""
    rest = [claim for claim in claims if claim not in failing]
    await lane.release([])
    again = (await lane.claim(10)).claims
    assert groups(list(again)) == "bb"
    assert len(rest) == 4
    packed: Any = await redis.hget("relay:{test}:groups", "a")
    state = msgspec.msgpack.decode(packed)
    assert (state["state"], state["reason"]) == ("open", "3 failures in a row: refused")


async def test_an_open_breaker_of_a_group_lets_one_probe_through(redis: Redis) -> None:
    limits: dict[str, Any] = {
        "groups": {"breaker": {"failures": 2, "cooldown": 30.0}},
        "retry": {"base": 1.0, "max": 1.0},
    }
    with settable_clock():
        lane, now = a_lane(redis, **limits), 2_000_000_000
        await set_clock(redis, now)
        await lane.enqueue(messages("aaaa"))
        await settle(lane, list((await lane.claim(2)).claims), Retry("refused"), **limits)
        assert (await lane.claim(10)).claims == []
        await set_clock(redis, now + 31)
        probe = list((await lane.claim(10)).claims)
        assert len(probe) == 1
        assert (await lane.claim(10)).claims == []
        await settle(lane, probe, Retry("refused"), **limits)
        assert (await lane.claim(10)).claims == []
        await set_clock(redis, now + 62)
        await settle(lane, list((await lane.claim(10)).claims), Delivered(), **limits)
        assert len((await lane.claim(10)).claims) == 3


async def test_the_lane_opens_only_if_most_groups_fail(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}, "breaker": {"failures": 6}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("abcdefgh" * 4))
    claims = list((await lane.claim(32)).claims)
    healthy = [claim for claim in claims if claim.message.group in "abcd"]
    sick = [claim for claim in claims if claim.message.group in "efgh"]
    assert (await settle(lane, sick, Retry("refused"), **limits)).state == ""
    assert (await settle(lane, healthy, Delivered(), **limits)).state == ""


async def test_the_lane_opens_if_all_groups_fail(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}, "breaker": {"failures": 6}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("abcdefgh"))
    settled = await settle(lane, list((await lane.claim(8)).claims), Retry("no network"), **limits)
    assert (settled.state, settled.reason) == ("open", "8 of 8 groups fail")


async def test_a_paused_group_holds_no_other_and_its_pause_can_end(redis: Redis) -> None:
    with settable_clock():
        lane, now = a_lane(redis, groups={}), 2_000_000_000
        await set_clock(redis, now)
        await lane.pause_group("a", now + 60, "me@host", "maintenance")
        await lane.enqueue(messages("aab"))
        assert groups(list((await lane.claim(10)).claims)) == "b"
        await set_clock(redis, now + 61)
        assert groups(list((await lane.claim(10)).claims)) == "aa"
        await lane.pause_group("b")
        await lane.enqueue(messages("b"))
        await set_clock(redis, now + 1_000_000)
        assert (await lane.claim(10)).claims == []
        assert await lane.resume_group("b")
        assert groups(list((await lane.claim(10)).claims)) == "b"


async def test_a_group_without_a_success_for_long_is_disabled(redis: Redis) -> None:
    limits: dict[str, Any] = {
        "groups": {"disable_after": 86400.0, "breaker": {"cooldown": 1.0}},
        "retry": {"base": 1.0, "max": 1.0},
    }
    with settable_clock():
        lane, now = a_lane(redis, **limits), 2_000_000_000
        await set_clock(redis, now)
        await lane.enqueue(messages("aaab"))
        claims = list((await lane.claim(10)).claims)
        await settle(lane, claims[:1], Retry("refused"), **limits)
        await set_clock(redis, now + 86401)
        await settle(lane, claims[2:3], Retry("refused"), **limits)
        await lane.enqueue([a_message("late", group="a"), a_message("fine", group="c")])
        await set_clock(redis, now + 86403)
        out: list[Claim] = []
        for _ in range(3):
            out += (await lane.claim(10)).claims
        assert texts(out) == ["fine"]
        dead = [fields[b"reason"] for _, fields in await entries_of(redis, "relay:{test}:dead")]
        assert dead == 3 * [b"group disabled"]
        letters = [
            msgspec.msgpack.decode(fields[b"letter"])
            for _, fields in await entries_of(redis, "relay:{test}:outbox")
        ]
        assert [letter[1:3] for letter in letters if letter[0] == "feedback"] == [["a", "group disabled"]]
        assert await lane.resume_group("a")
        await lane.enqueue([a_message("again", group="a")])
        assert texts((await lane.claim(10)).claims) == ["again"]


async def test_each_target_of_a_fan_out_waits_in_its_own_group(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    fan_out = split(a_message("x", payload_json=b'{"targets": ["a", "b", "a"]}'), "to", 10)
    assert isinstance(fan_out, FanOut)
    await lane.enqueue([fan_out])
    (expansion,) = (await lane.claim(10)).expansions
    assert await lane.expand(expansion, lambda message: str(message.payload["to"])) is not None
    assert Counter(groups(list((await lane.claim(10)).claims))) == {"a": 2, "b": 1}


async def test_the_backlog_of_a_group_is_limited_apart(redis: Redis) -> None:
    lane = a_lane(redis, groups={"max_backlog": 2, "concurrency": 0})
    assert (await lane.enqueue(messages("aaab"))).dropped == 1
    assert texts((await lane.claim(10)).claims) == ["a1", "b3", "a2"]
    newest = a_lane(redis, name="other", groups={"max_backlog": 2, "concurrency": 0}, overflow="drop_newest")
    assert (await newest.enqueue(messages("aaab"))).dropped == 1
    assert texts((await newest.claim(10)).claims) == ["a0", "b3", "a1"]


async def test_a_large_group_pays_for_a_full_lane(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0}, max_backlog=40)
    await lane.enqueue(messages("b" + 39 * "a"))
    assert (await lane.enqueue(messages("cdefgh"))).dropped == 6
    assert Counter(groups(list((await lane.claim(100)).claims)))["b"] == 1


async def test_an_ordering_key_holds_within_groups(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    await lane.enqueue(messages("aba", ordering_key="k"))
    first = list((await lane.claim(10)).claims)
    assert texts(first) == ["a0"]
    await settle(lane, first, Delivered(), groups={})
    assert texts((await lane.claim(10)).claims) == ["b1"]


async def test_a_newer_message_of_another_group_waits_in_its_own(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 1})
    await lane.enqueue([a_message("b0", group="b"), a_message("old", group="a", collapse_key="state")])
    await lane.enqueue([a_message("new", group="b", collapse_key="state")])
    claims = (await lane.claim(10)).claims
    assert texts(claims) == ["b0"], "the concurrency of its group holds for it"
    assert await redis.hgetall("relay:{test}:groups:in-flight") == {b"b": b"1"}
    await settle(lane, list(claims), Delivered())
    assert texts((await lane.claim(10)).claims) == ["new"]


async def test_a_message_without_a_group_replaces_one_that_has_one(redis: Redis) -> None:
    grouped, plain = a_lane(redis, groups={"concurrency": 1}), a_lane(redis)
    await grouped.enqueue([a_message("old", group="a", collapse_key="state")])
    await plain.enqueue([a_message("new", collapse_key="state")])
    assert texts((await plain.claim(10)).claims) == ["new"]
    assert await redis.hgetall("relay:{test}:groups:in-flight") == {}


async def test_a_cancelled_message_leaves_its_group(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    await lane.enqueue(
        [
            msgspec.structs.replace(message, id=message.payload["text"], named=True)
            for message in messages("ab")
        ]
    )
    assert await lane.cancel("a0", ["w1"]) == "cancelled"
    assert texts((await lane.claim(10)).claims) == ["b1"]
    assert await redis.exists("relay:{test}:waiting:normal", "relay:{test}:rotation:normal") == 0


async def test_a_lane_whose_groups_are_switched_off_serves_those_that_are_left(redis: Redis) -> None:
    lane, without = a_lane(redis, groups={"concurrency": 1}), a_lane(redis)
    await lane.enqueue(messages("aaab"))
    first = list((await lane.claim(10)).claims)
    assert groups(first) == "ab"
    await settle(without, first, Delivered())
    out = list((await without.claim(10)).claims)
    assert groups(out) == "aa"
    await settle(without, out, Delivered())
    status = await read_lane(redis, "relay", "test", ["w1"], time.time())
    assert (status.waiting, status.in_flight) == (0, 0)


async def test_messages_from_a_time_without_groups_are_served_with_them(redis: Redis) -> None:
    without, lane = a_lane(redis), a_lane(redis, groups={})
    await without.enqueue([a_message("old"), a_message("older")])
    await lane.enqueue(messages("ab"))
    assert sorted(texts((await lane.claim(10)).claims)) == ["a0", "b1", "old", "older"]


async def test_an_idle_group_costs_nothing(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    await lane.enqueue(messages("abcdefgh"))
    await settle(lane, list((await lane.claim(10)).claims), Delivered(), groups={})
    left = [key for key in lane.keys.types if await redis.exists(key)]
    assert left == ["relay:{test}:control"]


async def test_groups_that_hang_leave_slots_to_others(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 16})
    await lane.enqueue(messages("ab" * 20))
    hanging = (await lane.claim(16, shared=12)).claims
    assert Counter(groups(list(hanging))) == {"a": 6, "b": 6}
    claimed = await lane.claim(3, shared=12)
    assert (claimed.claims, claimed.reason) == ([], "empty")
    assert claimed.wait is None, "a settle says that there is more, see below"
    await lane.enqueue(messages("ccdd"))
    assert groups(list((await lane.claim(3, shared=12)).claims)) == "cd"
    assert (await settle(lane, list(hanging[:6]), Retry("hung"), groups={})).ready > 0
    assert len((await lane.claim(8, shared=12)).claims) > 0


async def test_a_lone_group_uses_most_slots(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 0})
    await lane.enqueue(messages("a" * 40))
    assert len((await lane.claim(16, shared=12)).claims) == 12
    assert len((await lane.claim(3, shared=12)).claims) == 0


async def test_a_group_that_failed_is_served_despite_a_backlog_of_others(redis: Redis) -> None:
    lane = a_lane(redis, groups={})
    await lane.enqueue(messages("z"))
    failed = Retry("no network", after=0.001)
    await settle(lane, list((await lane.claim(1, shared=6)).claims), failed, groups={})
    await lane.enqueue(messages("abcdefghijklmnopqrstuvwxy"))
    served = ""
    while "z" not in served:
        # So many finish at a time that a quarter of the slots is free.
        claims = list((await lane.claim(4, shared=6)).claims)
        assert claims, "the group starves"
        served += groups(claims)
        await settle(lane, claims, Delivered(), groups={})


async def test_a_group_that_was_not_tried_may_send_while_most_groups_fail(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}, "breaker": {"failures": 6}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("abcdefgh" * 2))
    claims = list((await lane.claim(8)).claims)
    settled = await settle(lane, claims, Retry("no network"), **limits)
    assert settled.state == "open"
    assert (await lane.claim(10)).claims == [], "those that failed wait"
    await lane.enqueue(messages("xx"))
    fresh = list((await lane.claim(10)).claims)
    assert groups(fresh) == "x"
    settled = await settle(lane, fresh, Delivered(), **limits)
    assert settled.state == "", "a success closes the breaker of the lane"
    assert "x" in groups(list((await lane.claim(20)).claims))


async def test_failures_of_groups_are_forgotten_even_if_nothing_follows(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {}, "breaker": {"window": 30.0}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("ab"))
    await settle(lane, list((await lane.claim(10)).claims), Retry("no network"), **limits)
    assert 0 < await redis.ttl("relay:{test}:groups:tried") <= 31


async def test_a_success_of_a_message_with_nothing_but_its_group_frees_its_place(redis: Redis) -> None:
    lane = a_lane(redis, groups={"concurrency": 1})
    await lane.enqueue([plain_message("first", group="a"), plain_message("second", group="a")])
    claims = list((await lane.claim(10)).claims)
    settled = await settle(lane, claims, Delivered(), groups={"concurrency": 1})
    assert (settled.settled, settled.ready) == (1, 1)
    assert texts((await lane.claim(10)).claims) == ["second"]


async def test_a_hold_of_a_group_that_the_options_do_not_know_loses_no_message(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a0", group="a")])
    await settle(lane, list((await lane.claim(1)).claims), Throttled("429", after=3600.0), groups={})
    await lane.resume_group("a")
    assert texts((await lane.claim(1)).claims) == ["a0"]


async def test_a_rejected_message_counts_as_an_answer_of_its_group(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"breaker": {"failures": 2}}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("aaaa"))
    claims = list((await lane.claim(3)).claims)
    await settle(lane, claims[:1], Retry("refused", after=HOUR), **limits)
    await settle(lane, claims[1:2], Rejected("bad"), **limits)
    await settle(lane, claims[2:], Retry("refused", after=HOUR), **limits)
    assert texts((await lane.claim(10)).claims) == ["a3"]


async def test_a_settle_reports_groups_whose_state_changes(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"breaker": {"failures": 2}}}
    lane = a_lane(redis, **limits)
    await lane.enqueue(messages("aaab"))
    claims = list((await lane.claim(10)).claims)
    failing = [claim for claim in claims if claim.message.group == "a"]
    other = [claim for claim in claims if claim.message.group == "b"]
    (change,) = (await settle(lane, failing[:2], Retry("refused"), **limits)).groups
    assert (change.group, change.state, change.reason) == ("a", "open", "2 failures in a row: refused")
    assert change.seconds > 0
    assert (await settle(lane, other, Throttled("slow down", HOUR), **limits)).groups[0].state == "throttled"
    (change,) = (await settle(lane, failing[2:], Delivered(), **limits)).groups
    assert (change.group, change.state) == ("a", "")
