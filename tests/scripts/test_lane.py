"""The lane's scripts, one behaviour a test, on every installed Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.message import Message
from relay.outcome import (
    Delivered,
    Isolate,
    Outcome,
    Postponed,
    Rejected,
    Retry,
    Throttled,
    Unauthorised,
    Unregistered,
)
from relay.settings.values import Rate, parse_rate
from relay.store import dead
from relay.store.claims import Claim, Hold
from relay.store.codec import Settled
from relay.store.dead import Revived
from relay.store.fleet import Fleet
from relay.store.items import Malformed
from relay.store.lane import Lane
from relay.store.overview import read_lane
from relay.store.pause import Pause
from relay.store.settlement import DeliveredOne, RetryLater
from testing.builders import a_lane, a_message, options, plain_message, texts
from testing.clock import set_clock, settable_clock
from testing.script_text import changed_script
from testing.streams import entries_of

HOUR = 3600.0


async def settle(lane: Lane, claims: Sequence[Claim], outcome: Outcome, **fields: Any) -> Settled:
    """Settle all claims by one outcome, as the dispatcher would."""
    policy = Policy(options(**fields))
    settlements = [policy.settle(claim, outcome) for claim in claims]
    hold = policy.hold(outcome) if isinstance(outcome, Throttled) else None
    return await lane.settle(settlements, hold)


async def test_messages_come_out_in_the_order_they_went_in(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message(str(number)) for number in range(10)])
    first = await lane.claim(4)
    second = await lane.claim(100)
    assert texts(first.claims) == ["0", "1", "2", "3"]
    assert texts(second.claims) == ["4", "5", "6", "7", "8", "9"]
    assert (first.reason, second.reason, second.wait) == ("ok", "empty", None)


async def test_a_postponed_message_comes_back_with_all_its_attempts_and_opens_no_breaker(
    redis: Redis,
) -> None:
    """Our own trouble is neither the message's nor the provider's."""
    lane = a_lane(redis, breaker={"failures": 1})
    await lane.enqueue([a_message("1", collapse_key="k")])
    for _ in range(3):
        async with asyncio.timeout(10):
            while not (claimed := await lane.claim(1)).claims:
                await asyncio.sleep(0.01)
        assert claimed.claims[0].message.attempts == 0
        await settle(lane, list(claimed.claims), Postponed("no descriptor", 0.01))
    status = await read_lane(redis, "relay", "test", ["w1"], time.time())
    assert (status.state, status.delayed, status.totals["retried"]) == ("running", 1, 0)
    # A newer one with the same key can take its place.
    assert (await lane.enqueue([a_message("2", collapse_key="k")])).collapsed == 1


async def test_lifo_hands_out_the_newest_first(redis: Redis) -> None:
    lane = a_lane(redis, order="lifo")
    await lane.enqueue([plain_message(str(number)) for number in range(5)])
    assert texts((await lane.claim(2)).claims) == ["4", "3"]


async def test_high_goes_before_normal_before_low(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message(level, priority=level) for level in ("low", "normal", "high")])
    assert texts((await lane.claim(10)).claims) == ["high", "normal", "low"]


async def test_a_standing_backlog_leaves_a_share_to_low(redis: Redis) -> None:
    lane = a_lane(redis)
    for level in ("high", "normal", "low"):
        await lane.enqueue([plain_message(level, priority=level) for _ in range(200)])
    out: list[str] = []
    for _ in range(10):
        out += texts((await lane.claim(10)).claims)
    assert {level: out.count(level) for level in ("high", "normal", "low")} == {
        "high": 85,
        "normal": 10,
        "low": 5,
    }


async def test_claims_of_one_message_hand_out_one_and_keep_the_shares(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue(
        [plain_message(level, priority=level) for level in ("high", "normal", "low") for _ in range(200)]
    )
    found = [texts((await lane.claim(1)).claims) for _ in range(200)]
    assert {len(each) for each in found} == {1}
    assert Counter(level for each in found for level in each) == {"high": 170, "normal": 20, "low": 10}


async def test_the_shares_are_the_operator_s(redis: Redis) -> None:
    lane = a_lane(redis, shares={"normal": 0.3, "low": 0.2})
    for level in ("high", "normal", "low"):
        await lane.enqueue([plain_message(level, priority=level) for _ in range(200)])
    out: list[str] = []
    for _ in range(10):
        out += texts((await lane.claim(7)).claims)
    assert {level: out.count(level) for level in ("high", "normal", "low")} == {
        "high": 35,
        "normal": 21,
        "low": 14,
    }
    only_low = a_lane(redis, name="other", shares={"normal": 0.3, "low": 0.2})
    await only_low.enqueue([plain_message("low", priority="low") for _ in range(20)])
    assert len((await only_low.claim(10)).claims) == 10, "a share that nobody uses is nobody's"


async def test_a_delivered_message_leaves_nothing_behind(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a"), a_message("b", reply_to="", ordering_key="k", collapse_key="c")])
    settled = await settle(lane, list((await lane.claim(10)).claims), Delivered())
    assert (settled.settled, settled.stale, settled.state) == (2, 0, "")
    assert [key async for key in redis.scan_iter()] == [lane.keys.part("control").encode()]


async def test_the_rate_allows_the_burst_and_then_returns_the_wait(redis: Redis) -> None:
    lane = a_lane(redis, rate="10/s", burst=3)
    await lane.enqueue([plain_message(str(number)) for number in range(9)])
    first = await lane.claim(9)
    assert len(first.claims) == 3
    assert first.reason == "rate"
    assert first.wait is not None
    assert 0 < first.wait <= 0.1
    again = await lane.claim(9)
    assert (again.claims, again.reason) == ([], "rate")


async def test_several_rates_apply_together(redis: Redis) -> None:
    lane = Lane(redis, "relay", "test", options().model_copy(update={"rate": _rates("1000/s", "20/m")}), "w1")
    await lane.enqueue([plain_message(str(number)) for number in range(200)])
    assert len((await lane.claim(100)).claims) == 1


def _rates(*texts_: str) -> tuple[Rate, ...]:
    return tuple(parse_rate(text) for text in texts_)


async def test_a_retry_waits_in_redis_and_counts_the_attempt(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a")])
    (claim,) = (await lane.claim(1)).claims
    await lane.settle([RetryLater(claim.ticket, claim.fencing_token, 30, claim.tries(attempts=1), "503")])
    waiting = await lane.claim(1)
    assert waiting.claims == []
    assert waiting.wait is not None
    assert 0 < waiting.wait <= 0.03
    while not (claims := (await lane.claim(1)).claims):
        pass
    assert claims[0].message.attempts == 1
    assert claims[0].deliveries == 1


async def test_the_last_attempt_makes_a_dead_letter_that_keeps_everything(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("order-17")])
    outcome = Retry("503 Service Unavailable", status=503, body=b"x" * 10_000)
    await settle(lane, list((await lane.claim(1)).claims), outcome, retry={"attempts": 1})
    (letter,) = [letter async for letter in dead.read(redis, lane.keys.part("dead"))]
    assert letter.message is not None
    assert (letter.message.id, letter.status, letter.attempts) == ("order-17", 503, 1)
    assert letter.reason == "gave up after 1 attempts: 503 Service Unavailable"
    assert letter.body == b"x" * 4096
    assert await lane.size() == 0


async def test_a_throttled_provider_holds_the_whole_fleet_and_spends_no_attempt(redis: Redis) -> None:
    one, other = a_lane(redis, worker="w1"), a_lane(redis, worker="w2")
    await one.enqueue([plain_message("a"), plain_message("b")])
    settled = await settle(one, list((await one.claim(1)).claims), Throttled("429", after=HOUR))
    assert settled.state == "throttled"
    assert settled.hold == pytest.approx(HOUR, abs=1)
    held = await other.claim(10)
    assert (held.claims, held.reason) == ([], "throttled")
    await other.resume()
    claims = (await other.claim(10)).claims
    assert texts(claims) == ["a", "b"]
    assert claims[0].message.attempts == 0


@pytest.mark.parametrize("order", ["fifo", "lifo"])
async def test_messages_that_the_provider_throttled_go_behind_the_others_after_the_hold(
    redis: Redis, order: str
) -> None:
    with settable_clock():
        now = 1_000_000
        await set_clock(redis, now)
        lane = a_lane(redis, order=order)
        await lane.enqueue([plain_message("a")])
        await lane.enqueue([plain_message("b")])
        throttled = list((await lane.claim(2)).claims)
        await settle(lane, throttled, Throttled("429", after=1))
        await lane.enqueue([plain_message("c")])
        await lane.enqueue([plain_message("d"), plain_message("high", priority="high")])
        assert (await lane.claim(9)).reason == "throttled"
        await set_clock(redis, now + 1)
        others = ["c", "d"] if order == "fifo" else ["d", "c"]
        claimed = (await lane.claim(9)).claims
        assert texts(claimed[:3]) == ["high", *others]
        assert sorted(texts(claimed[3:])) == ["a", "b"]
        assert [claim.message.attempts for claim in claimed] == [0] * 5
        # The next throttled message is not confused with them.
        await settle(lane, list(claimed[:1]), Throttled("429", after=1))
        await settle(lane, list(claimed[1:]), Delivered())
        await set_clock(redis, now + 2)
        assert texts((await lane.claim(9)).claims) == ["high"]


async def test_a_message_that_alone_is_throttled_lets_another_go_first_each_time(redis: Redis) -> None:
    with settable_clock():
        now = 1_000_000
        await set_clock(redis, now)
        lane = a_lane(redis)
        await lane.enqueue([plain_message(text) for text in ["bad", "a", "b", "c"]])
        sent = []
        for second in range(0, 10, 2):
            await set_clock(redis, now + second)
            while claims := list((await lane.claim(1)).claims):
                sent += texts(claims)
                bad = texts(claims) == ["bad"]
                await settle(lane, claims, Throttled("429", after=1) if bad else Delivered())
        assert sent == ["bad", "a", "b", "c", "bad", "bad", "bad", "bad"]


async def test_an_ordering_key_waits_for_its_throttled_message(redis: Redis) -> None:
    with settable_clock():
        now = 1_000_000
        await set_clock(redis, now)
        lane = a_lane(redis)
        await lane.enqueue(
            [a_message("k1", ordering_key="k"), a_message("k2", ordering_key="k"), plain_message("a")]
        )
        (first, other) = (await lane.claim(9)).claims
        await settle(lane, [other], Delivered())
        await settle(lane, [first], Throttled("429", after=1))
        await lane.enqueue([plain_message("b")])
        await set_clock(redis, now + 1)
        claimed = list((await lane.claim(9)).claims)
        assert texts(claimed) == ["b", "k1"]
        await settle(lane, claimed, Delivered())
        assert texts((await lane.claim(9)).claims) == ["k2"]


@pytest.mark.parametrize("ordering_key", ["", "k"])
async def test_a_throttled_target_waits_alone(redis: Redis, ordering_key: str) -> None:
    with settable_clock():
        now = 1_000_000
        await set_clock(redis, now)
        lane = a_lane(redis)
        await lane.enqueue([a_message("device", ordering_key=ordering_key), plain_message("a")])
        if ordering_key:
            await lane.enqueue([a_message("device again", ordering_key=ordering_key)])
        (device, other) = (await lane.claim(9)).claims
        settled = await lane.settle(
            [Policy(options()).settle(device, Throttled("429", after=60, scope="target"))]
        )
        assert (settled.state, settled.hold) == ("", 0)
        await lane.enqueue([plain_message("b")])
        assert texts((await lane.claim(9)).claims) == ["b"]
        waiting = await lane.claim(9)
        assert (waiting.reason, waiting.wait) == ("empty", 60)
        await set_clock(redis, now + 60)
        (claim,) = (await lane.claim(9)).claims
        assert (claim.message.id, claim.message.attempts) == ("device", 0)
        assert texts([other]) == ["a"]


async def test_throttling_without_a_time_doubles_the_wait(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a")])
    holds = []
    for _ in range(3):
        settled = await settle(lane, list((await lane.claim(1)).claims), Throttled("429"))
        holds.append(round(settled.hold))
        await redis.hdel(lane.keys.part("control"), "state", "hold")
    assert holds == [1, 2, 4]


async def test_refused_credentials_hold_the_lane_and_one_probe_lifts_it(redis: Redis) -> None:
    breaker = {"failures": 20, "cooldown": 0.02}
    lane = a_lane(redis, breaker=breaker)
    await lane.enqueue([plain_message(str(number)) for number in range(5)])
    states = []
    for _ in range(3):
        probe = list((await lane.claim(1)).claims)
        states.append((await settle(lane, probe, Unauthorised("401"), breaker=breaker)).state)
    assert states == ["trial", "trial", "unauthorised"]
    while not (claimed := await lane.claim(5)).claims:
        pass
    assert texts(claimed.claims) == ["3"]
    assert (await lane.claim(5)).claims == []
    settled = await settle(lane, list(claimed.claims), Delivered())
    assert settled.state == ""
    assert texts((await lane.claim(5)).claims) == ["0", "1", "2", "4"]


async def test_failures_in_a_row_open_the_breaker(redis: Redis) -> None:
    breaker = {"failures": 3, "cooldown": 60}
    lane = a_lane(redis, breaker=breaker)
    await lane.enqueue([plain_message(str(number)) for number in range(5)])
    settled = await settle(lane, list((await lane.claim(3)).claims), Retry("refused"))
    assert settled.state == "open"
    assert (await lane.claim(5)).reason == "open"


async def test_a_share_of_failures_opens_the_breaker_though_never_many_in_a_row(redis: Redis) -> None:
    lane = a_lane(redis, breaker={"failures": 5, "cooldown": 60})
    for number in range(10):
        await lane.enqueue([plain_message(str(number))])
        claims = (await lane.claim(1)).claims
        assert claims, "it is open too soon"
        outcome = Retry("503") if number % 2 == 0 else Delivered()
        settled = await settle(lane, list(claims), outcome, breaker={"failures": 5})
    assert settled.state == ""
    await lane.enqueue([plain_message("last")])
    settled = await settle(lane, list((await lane.claim(1)).claims), Retry("503"), breaker={"failures": 5})
    assert settled.state == "open"
    assert settled.hold == pytest.approx(60, abs=1)
    status = await read_lane(redis, "relay", "test", ["w1"], time.time())
    assert status.why == "6 of 11 deliveries failed: 503"
    await lane.resume()
    assert await redis.hget(lane.keys.part("control"), "window") is None


async def test_a_window_that_is_over_counts_no_more(redis: Redis) -> None:
    with settable_clock():
        lane = a_lane(redis, breaker={"failures": 3, "cooldown": 60, "window": 60})
        for number in range(12):
            await set_clock(redis, 1_000_000 + 50 * number)
            await lane.enqueue([plain_message(str(number))])
            claims = list((await lane.claim(1)).claims)
            outcome = Retry("503") if number % 3 else Delivered()
            assert (await settle(lane, claims, outcome, breaker={"failures": 3})).state == ""


async def test_an_answer_between_failures_keeps_the_breaker_closed(redis: Redis) -> None:
    lane = a_lane(redis, breaker={"failures": 3, "cooldown": 60})
    await lane.enqueue([plain_message(str(number)) for number in range(5)])
    await settle(lane, list((await lane.claim(2)).claims), Retry("refused"))
    await settle(lane, list((await lane.claim(1)).claims), Rejected("400"))
    settled = await settle(lane, list((await lane.claim(2)).claims), Retry("refused"))
    assert settled.state == ""


async def test_pause_holds_and_resume_lets_go(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a")])
    await lane.pause()
    assert (await lane.claim(1)).reason == "paused"
    await lane.resume()
    assert texts((await lane.claim(1)).claims) == ["a"]


async def test_a_pause_with_an_end_ends_on_its_own(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a")])
    now = await Fleet(redis, "relay").now()
    await lane.pause(Pause(until=now + 3600))
    claimed = await lane.claim(1)
    assert claimed.reason == "paused"
    assert claimed.wait is not None
    assert 0 < claimed.wait <= 3601
    await lane.pause(Pause(by="ann@ops1"))
    assert (await lane.claim(1)).wait is None
    await lane.pause(Pause(until=now - 1, at=now - 9, by="ann@ops1", reason="work"))
    assert texts((await lane.claim(1)).claims) == ["a"]
    control: Any = await redis.hkeys(lane.keys.part("control"))
    assert [field for field in control if field.startswith(b"paused")] == []


async def test_a_hold_outlasts_a_pause_that_ends_on_its_own(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a")])
    await lane.settle([], Hold(3600, "429"))
    await lane.pause(Pause(until=await Fleet(redis, "relay").now() - 1))
    assert (await lane.claim(1)).reason == "throttled"


async def test_the_same_batch_number_counts_once(redis: Redis) -> None:
    lane = a_lane(redis)
    for _ in range(2):
        await lane.enqueue([plain_message("a")], "batch:w1:q", "7")
    await lane.enqueue([plain_message("b")], "batch:w1:q", "8")
    assert texts((await lane.claim(10)).claims) == ["a", "b"]


async def test_an_id_is_pending_only_once(redis: Redis) -> None:
    lane = a_lane(redis)
    first = await lane.enqueue([a_message("order-17"), a_message("order-17")])
    assert (first.accepted, first.duplicates) == (1, 1)
    claims = (await lane.claim(10)).claims
    assert (await lane.enqueue([a_message("order-17")])).duplicates == 1
    await settle(lane, list(claims), Delivered())
    assert (await lane.enqueue([a_message("order-17")])).accepted == 1


async def test_the_dedup_window_remembers_delivered_messages(redis: Redis) -> None:
    lane = a_lane(redis, dedup_window=60)
    await lane.enqueue([a_message("order-17")])
    await settle(lane, list((await lane.claim(1)).claims), Delivered())
    assert (await lane.enqueue([a_message("order-17")])).duplicates == 1


async def test_an_expired_message_is_never_claimed_and_costs_no_token(redis: Redis) -> None:
    lane = a_lane(redis, rate="1/h", burst=1)
    stale = [a_message(f"old-{number}", expires_at=time.time() - 1) for number in range(500)]
    await lane.enqueue([*stale, plain_message("fresh")])
    out: list[str] = []
    while not out:
        out = texts((await lane.claim(10)).claims)
    assert out == ["fresh"]
    status = await read_lane(redis, "relay", "test", ["w1"], time.time())
    assert status.totals["expired"] == 500
    assert await redis.hlen(lane.keys.part("ids")) == 0


async def test_a_newer_message_replaces_the_older_one_in_place(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue(
        [a_message("a", collapse_key="k"), plain_message("b"), a_message("c", collapse_key="k")]
    )
    claims = (await lane.claim(10)).claims
    assert texts(claims) == ["c", "b"]
    await lane.enqueue([a_message("d", collapse_key="k")])
    assert texts((await lane.claim(10)).claims) == ["d"]


@pytest.mark.parametrize("groups", [None, {}], ids=["without groups", "with groups"])
@pytest.mark.parametrize("key", ["", "user-7"], ids=["no key", "ordering key"])
async def test_a_newer_message_does_not_inherit_the_delay_of_the_older_one(
    redis: Redis, groups: Any, key: str
) -> None:
    lane = a_lane(redis) if groups is None else a_lane(redis, groups=groups)
    fields = {"collapse_key": "k", "ordering_key": key, "group": "" if groups is None else "a"}
    with settable_clock():
        await set_clock(redis, 1000)
        await lane.enqueue([a_message("older", deliver_at=1000 + HOUR, **fields)])
        await lane.enqueue([a_message("newer", deliver_at=1010, **fields)])
        assert (await lane.claim(10)).claims == []
        await set_clock(redis, 1011)
        assert texts((await lane.claim(10)).claims) == ["newer"]
        fields["collapse_key"] = fields["ordering_key"] = "another"
        await lane.enqueue([a_message("later", deliver_at=1000 + HOUR, **fields), a_message("now", **fields)])
        assert texts((await lane.claim(10)).claims) == ["now"]


async def test_a_newer_message_waits_for_the_next_attempt_of_the_older_one(redis: Redis) -> None:
    lane = a_lane(redis)
    with settable_clock():
        await set_clock(redis, 1000)
        await lane.enqueue([a_message("older", deliver_at=900, collapse_key="k")])
        (claim,) = (await lane.claim(1)).claims
        tries = claim.tries(attempts=1, isolated=False)
        await lane.settle([RetryLater(claim.ticket, claim.fencing_token, 60_000, tries, "503")])
        await lane.enqueue([a_message("newer", collapse_key="k")])
        assert (await lane.claim(10)).claims == []
        await set_clock(redis, 1061)
        assert texts((await lane.claim(10)).claims) == ["newer"]


async def test_a_late_success_of_the_replaced_message_does_not_end_the_newer_one(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("older", collapse_key="k")])
    (older,) = (await lane.claim(1)).claims
    await a_lane(redis, worker="w2").recover("w1")
    await lane.enqueue([a_message("newer", collapse_key="k")])
    await lane.settle([DeliveredOne(older.ticket, older.fencing_token, 1)])
    assert texts((await lane.claim(10)).claims) == ["newer"]


async def test_a_retry_that_would_come_too_late_comes_at_the_end(redis: Redis) -> None:
    lane = a_lane(redis)
    with settable_clock():
        await set_clock(redis, 1000)
        await lane.enqueue([a_message("a", expires_at=1010, reply_to="answers")])
        (claim,) = (await lane.claim(1)).claims
        tries = claim.tries(attempts=1, isolated=False)
        await lane.settle([RetryLater(claim.ticket, claim.fencing_token, 3_600_000, tries, "")])
        waiting = await lane.claim(1)
        assert waiting.wait is not None
        assert waiting.wait <= 10
        await set_clock(redis, 1011)
        claimed = await lane.claim(1)
    assert (list(claimed.claims), claimed.passed_over) == ([], 1)
    assert await lane.size() == 0


async def test_the_dedup_window_remembers_a_limited_number(redis: Redis) -> None:
    lane = a_lane(redis, dedup_window=HOUR)
    seen = lane.keys.part("seen")
    await redis.zadd(seen, {f"id-{number}": 1e15 + number for number in range(15)})
    await lane.enqueue([a_message("order-17")])
    claims = list((await lane.claim(1)).claims)
    # A million, which a test would fill for long.
    with changed_script("settle", "-1000000 - 1", "-10 - 1"):
        await settle(lane, claims, Delivered(), dedup_window=HOUR)
    assert await redis.zcard(seen) == 10


async def test_an_ordering_key_goes_one_at_a_time_and_in_order(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message(f"{key}{number}", ordering_key=key) for number in range(3) for key in "xy"])
    out: list[str] = []
    while claims := list((await lane.claim(10)).claims):
        assert len(claims) == 2
        out += texts(claims)
        await settle(lane, claims, Delivered())
    assert [text for text in out if text[0] == "x"] == ["x0", "x1", "x2"]
    assert [text for text in out if text[0] == "y"] == ["y0", "y1", "y2"]


async def test_a_delayed_message_waits_for_its_time(redis: Redis) -> None:
    lane = a_lane(redis)
    with settable_clock():
        await set_clock(redis, 1000)
        await lane.enqueue([plain_message("later", deliver_at=1005), plain_message("now")])
        assert texts((await lane.claim(10)).claims) == ["now"]
        await set_clock(redis, 1004)
        assert texts((await lane.claim(10)).claims) == []
        await set_clock(redis, 1005)
        assert texts((await lane.claim(10)).claims) == ["later"]


@pytest.mark.parametrize(("overflow", "left"), [("drop_oldest", ["2", "3"]), ("drop_newest", ["0", "1"])])
async def test_a_full_backlog_drops_messages_by_the_configured_policy(
    redis: Redis, overflow: str, left: list[str]
) -> None:
    lane = a_lane(redis, max_backlog=2, overflow=overflow)
    enqueued = await lane.enqueue([plain_message(str(number)) for number in range(4)])
    assert enqueued.dropped == 2
    assert texts((await lane.claim(10)).claims) == left


async def test_a_frozen_worker_settles_nothing_that_was_handed_on(redis: Redis) -> None:
    frozen, other = a_lane(redis, worker="w1"), a_lane(redis, worker="w2")
    await frozen.enqueue([plain_message("a")])
    claims = list((await frozen.claim(1)).claims)
    await other.recover("w1")
    (again,) = (await other.claim(1)).claims
    assert (again.crashes, again.message.attempts) == (1, 0)
    settled = await settle(frozen, claims, Rejected("400"))
    assert (settled.settled, settled.stale) == (0, 1)
    assert await other.size() == 1


async def test_a_success_is_final_even_if_a_stale_claim_reports_it(redis: Redis) -> None:
    frozen, other = a_lane(redis, worker="w1"), a_lane(redis, worker="w2")
    await frozen.enqueue([plain_message("a")])
    claims = list((await frozen.claim(1)).claims)
    await other.recover("w1")
    await settle(frozen, claims, Delivered())
    assert (await other.claim(1)).claims == []
    assert await other.size() == 0


@pytest.mark.parametrize("limits", [{}, {"groups": {}}])
@pytest.mark.parametrize("others", [0, 1])
async def test_a_message_that_two_workers_deliver_counts_once(
    redis: Redis, limits: dict[str, Any], others: int
) -> None:
    """The outcome is settled alone or together with another one."""
    frozen, other = a_lane(redis, worker="w1", **limits), a_lane(redis, worker="w2", **limits)
    group = "a" if limits else ""
    await frozen.enqueue([plain_message("a", group=group)])
    claims = list((await frozen.claim(1)).claims)
    await other.recover("w1")
    (again,) = (await other.claim(1)).claims
    await settle(frozen, claims, Delivered())
    await other.enqueue([plain_message("b", group=group)] * others)
    failed = list((await other.claim(1)).claims)
    policy = Policy(options())
    outcomes = [
        policy.settle(again, Delivered()),
        *(policy.settle(claim, Rejected("400")) for claim in failed),
    ]
    await other.settle(outcomes)
    assert await redis.hget(other.keys.part("control"), "delivered") == b"1"
    assert await other.size() == 0


async def test_a_message_that_killed_three_workers_is_a_dead_letter(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("poison")])
    for number in range(3):
        victim = a_lane(redis, worker=f"victim-{number}")
        assert len((await victim.claim(1)).claims) == 1
        await lane.recover(f"victim-{number}")
    (letter,) = [letter async for letter in dead.read(redis, lane.keys.part("dead"))]
    assert letter.reason.startswith("poison")
    assert await lane.size() == 0


async def test_a_release_restores_the_order_and_spares_the_kept_tickets(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message(str(number)) for number in range(5)])
    claims = (await lane.claim(4)).claims
    assert await lane.release(keep=[claims[0].ticket]) == 3
    again = (await lane.claim(10)).claims
    assert texts(again) == ["1", "2", "3", "4"]
    assert [claim.deliveries for claim in again] == [1, 1, 1, 0]


async def test_members_of_a_failed_batch_come_back_to_travel_alone(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a"), plain_message("b")])
    await settle(lane, list((await lane.claim(2)).claims), Isolate())
    claims = (await lane.claim(2)).claims
    assert texts(claims) == ["a", "b"]
    assert all(claim.isolated and claim.message.attempts == 0 for claim in claims)


async def test_a_retried_dead_letter_passes_the_rate_limit(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a", priority="high")])
    await settle(lane, list((await lane.claim(1)).claims), Rejected("400"))
    (letter,) = [letter async for letter in dead.read(redis, lane.keys.part("dead"))]
    assert await dead.revive(redis, "relay", lane.provider, [letter.entry]) == Revived(1, 0, 0)
    (claim,) = (await lane.claim(1)).claims
    assert (claim.message.id, claim.message.attempts, claim.message.priority) == ("a", 0, 0)
    assert await redis.xlen(lane.keys.part("dead")) == 0


async def test_a_malformed_element_is_filed_with_its_raw_bytes(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([Malformed(b"\xff{", "not UTF-8", "notifications"), plain_message("a")])
    (letter,) = [letter async for letter in dead.read(redis, lane.keys.part("dead"))]
    assert (letter.raw, letter.reason, letter.queue) == (b"\xff{", "not UTF-8", "notifications")
    assert texts((await lane.claim(10)).claims) == ["a"]


async def test_a_gone_target_leaves_feedback_and_a_receipt(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a", reply_to="answers")])
    await settle(lane, list((await lane.claim(1)).claims), Unregistered("token-1", "410"))
    await lane.enqueue([plain_message("b")])
    settled = await settle(lane, list((await lane.claim(1)).claims), Delivered())
    assert settled.outbox == 2
    assert await lane.size() == 0


async def test_a_delayed_message_that_is_taken_back_leaves_nothing(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("later", deliver_at=time.time() + HOUR)])
    assert await lane.cancel("later", ["w1"]) == "cancelled"
    assert await redis.exists(lane.keys.part("due"), lane.keys.part("bodies"), lane.keys.part("ids")) == 0


@pytest.mark.parametrize("when", ["waiting", "in flight", "gone"])
async def test_cancel_removes_only_messages_that_are_not_in_flight(redis: Redis, when: str) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    if when != "waiting":
        claims = list((await lane.claim(1)).claims)
        if when == "gone":
            await settle(lane, claims, Delivered())
    expected = {"waiting": "cancelled", "in flight": "in flight", "gone": "unknown"}[when]
    assert await lane.cancel("a", ["w1"]) == expected
    assert (await lane.claim(1)).claims == []


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_a_cancelled_message_leaves_its_room_in_the_backlog(redis: Redis, overflow: Any) -> None:
    lane = a_lane(redis, max_backlog=2, overflow=overflow)
    await lane.enqueue([a_message("a"), a_message("b")])
    assert await lane.cancel("a", ["w1"]) == "cancelled"
    assert (await lane.enqueue([a_message("c")])).dropped == 0
    assert (await lane.enqueue([a_message("d")])).dropped == 1
    left = ["c", "d"] if overflow == "drop_oldest" else ["b", "c"]
    assert texts((await lane.claim(10)).claims) == left


async def test_scripts_survive_a_script_flush(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a")])
    await redis.script_flush()
    assert texts((await lane.claim(1)).claims) == ["a"]


async def test_a_hold_is_only_as_long_as_its_longest_answer(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.settle([], Hold(10, "429"))
    settled = await lane.settle([], Hold(1, "429"))
    assert settled.hold == pytest.approx(10, abs=0.5)


async def test_a_clock_that_is_set_back_mints_no_tokens(redis: Redis) -> None:
    with settable_clock():
        await set_clock(redis, 1000)
        lane = a_lane(redis, rate="10/s", burst=5)
        await lane.enqueue([plain_message(str(number)) for number in range(50)])

        async def claimed_at(seconds: int) -> int:
            await set_clock(redis, seconds)
            return len((await lane.claim(50)).claims)

        assert [await claimed_at(second) for second in (1000, 1000, 900, 900, 901)] == [5, 0, 0, 0, 5]


async def test_a_lane_that_was_idle_warms_up_from_a_tenth_of_its_rate(redis: Redis) -> None:
    with settable_clock():
        await set_clock(redis, 1000)
        lane = a_lane(redis, rate="100/s", burst=10, warmup=10)
        await lane.enqueue([plain_message(str(number)) for number in range(900)])

        async def claimed_in_the_second_before(second: int) -> int:
            claimed = 0
            for tenth in range(10):
                await set_clock(redis, second - 1, tenth * 100_000)
                claimed += len((await lane.claim(100)).claims)
            return claimed

        speeds = [await claimed_in_the_second_before(1000 + second) for second in range(14)]
        assert 10 <= speeds[0] <= 25
        assert 45 <= speeds[5] <= 75
        assert 98 <= speeds[12] <= 102


async def test_an_adaptive_lane_halves_its_rate_at_each_wave_and_climbs_back(redis: Redis) -> None:
    with settable_clock():
        await set_clock(redis, 1000)
        lane = a_lane(redis, rate="100/s", burst=10, adaptive=True)
        await lane.enqueue([plain_message(str(number)) for number in range(900)])

        async def at(seconds: int, tenth: int = 0) -> int:
            await set_clock(redis, seconds, tenth * 100_000)
            return len((await lane.claim(100)).claims)

        assert await at(1000) == 10
        await lane.settle([], Hold(0.05, "429"))
        assert [await at(1000, tenth) for tenth in range(1, 5)] == [5, 5, 5, 5]
        assert await at(1030) == 10
        assert [await at(1030, tenth) for tenth in range(1, 5)] == [10, 10, 10, 10]


async def test_a_scoped_name_counts_within_its_queue_only(redis: Redis) -> None:
    lane = a_lane(redis, dedup_window=60.0)

    def named(scope: str, text: str, **fields: Any) -> Message:
        message = a_message(text, reply_to="receipts:1", scope=scope, **fields)
        return msgspec.structs.replace(message, id="same")

    scopes = ["", "one", "two"]
    assert (await lane.enqueue([named(scope, f"a{scope}") for scope in scopes])).accepted == 3
    assert (await lane.enqueue([named(scope, f"b{scope}") for scope in scopes])).duplicates == 3
    claims = (await lane.claim(10)).claims
    assert texts(claims) == ["a", "aone", "atwo"]
    assert {claim.message.id for claim in claims} == {"same"}
    await settle(lane, claims, Delivered())
    assert (await lane.enqueue([named(scope, f"c{scope}") for scope in scopes])).duplicates == 3
    letters = [fields[b"letter"] for _, fields in await entries_of(redis, lane.keys.part("outbox"))]
    assert {msgspec.msgpack.decode(letter)[2] for letter in letters} == {"same"}
    await lane.enqueue(
        [plain_message(f"k{scope}", scope=scope, collapse_key="k", ordering_key="k") for scope in scopes]
    )
    assert texts((await lane.claim(10)).claims) == ["k", "kone", "ktwo"]
