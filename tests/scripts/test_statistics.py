"""The statistics of a lane on every installed Redis: exactly once, bounded, and gone after their time."""

from __future__ import annotations

from typing import Any

import pytest

from relay.engine.policy import Policy as Outcomes
from relay.outcome import Delivered, Outcome, Rejected, Retry
from relay.redis_client.client import Client
from relay.settings.values import parse_rate
from relay.store.fleet import Fleet
from relay.store.histogram import Histogram
from relay.store.keys import LaneKeys
from relay.store.override import Override, set_override
from relay.store.pause import Pause
from relay.store.recording import Policy, Recording, Report, histogram_fields
from relay.store.statistics import (
    KEEP,
    MOST_REASONS,
    SECONDS,
    Counts,
    GroupCounts,
    merged,
    read_hours,
    read_minutes,
    read_recent,
)
from testing.builders import a_lane, a_message, options, plain_message

SAMPLE = Report()


def recording(redis: Client, worker: str = "w1", rate: float = 0.0, *names: str) -> Recording:
    return Recording(redis, "relay", dict.fromkeys(names or ("test",), Policy(worker, rate, 1000)))


async def now(redis: Client) -> float:
    return await Fleet(redis, "relay").now()


async def write(redis: Client, report: Report, worker: str = "w1", rate: float = 0.0) -> None:
    """Write a report, as if the last sample of the lane were old."""
    await redis.execute_command("HDEL", LaneKeys.of("relay", "test").part("statistics"), "at")
    assert await recording(redis, worker, rate).write({"test": report}) == {}


async def recent(redis: Client) -> Counts:
    return (await read_recent(redis, "relay", ["test"], now=await now(redis), minutes=2))["test"]


async def test_counts_of_all_workers_add_up(redis: Client) -> None:
    fast, slow = Histogram.of([0.002, 0.02]), Histogram.of([7.0])
    for worker, delivery in (("w1", fast), ("w2", slow)):
        counts = {"s:200": 2, **histogram_fields("d", delivery), **histogram_fields("q", fast)}
        report = Report("1", counts, {"503: full": 1}, {"acme": (3, 1)})
        await write(redis, report, worker)
    found = await recent(redis)
    assert found.statuses == {"200": 4}
    assert found.reasons == {"503: full": 2}
    assert found.delivery.counts == (fast + slow).counts
    assert found.delivery.total == pytest.approx(7.022)
    assert found.request.count == 4
    assert found.groups == {"acme": GroupCounts(6, 2)}


async def test_a_report_that_is_sent_again_counts_once(redis: Client) -> None:
    for number in ("1", "1", "2", "2"):
        await write(redis, Report(number, {"s:200": 1}, {"no": 1}, {"g": (1, 0)}, [b"\x90"]))
    found = await recent(redis)
    assert (found.statuses, found.reasons, found.groups) == ({"200": 2}, {"no": 2}, {"g": GroupCounts(2, 0)})
    journal = LaneKeys.of("relay", "test").part("journal")
    assert await redis.xlen(journal) == 2


async def test_every_end_of_a_message_is_counted_once_over_the_fleet(redis: Client) -> None:
    lane, outcomes = a_lane(redis, dedup_window=60.0, max_backlog=4), Outcomes(options())
    await write(redis, SAMPLE)
    await lane.enqueue([a_message("a"), a_message("a"), a_message("old", expires_at=1.0), plain_message("b")])
    await lane.enqueue([a_message("c1", collapse_key="k"), a_message("c2", collapse_key="k")])
    await lane.enqueue([plain_message("one too many")])
    claims = (await lane.claim(10)).claims
    ends: list[Outcome] = [Delivered(), Rejected("no"), Retry("later")]
    await lane.settle([outcomes.settle(claim, end) for claim, end in zip(claims, ends, strict=False)])
    await lane.enqueue([a_message("back")])
    await lane.cancel("back", [])
    for worker in ("w1", "w2", "w1"):
        await write(redis, SAMPLE, worker)
    control: Any = await redis.hgetall(lane.keys.part("control"))
    totals = {field.decode(): int(value) for field, value in control.items() if value.isdigit()}
    found = dict((await recent(redis)).outcomes)
    assert found == {name: totals[name] for name in found}
    assert {
        "delivered",
        "failed",
        "retried",
        "expired",
        "duplicate",
        "collapsed",
        "dropped",
        "cancelled",
    } <= {*found}


async def test_an_idle_lane_keeps_nothing(redis: Client) -> None:
    for _ in range(3):
        await write(redis, SAMPLE)
    moment = await now(redis)
    assert await read_minutes(redis, "relay", "test", now=moment, minutes=10) == []
    assert await redis.keys("*statistics:minute*") == []


async def test_a_backlog_is_sampled_with_the_age_of_its_oldest_message(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("a"), plain_message("b", priority="low")])
    ready: Any = lane.keys.part("ready:low")
    ticket: Any = await redis.lpop(ready)
    hour_ago = int(ticket) - 3600 * 1000 * 200 * 4
    await redis.rpush(ready, hour_ago)
    await write(redis, SAMPLE)
    found = await recent(redis)
    assert found.backlog == 2
    assert 3599 <= found.oldest_seconds < 3700


async def test_the_oldest_message_is_found_in_groups(redis: Client) -> None:
    lane = a_lane(redis, groups={"by": "message"})
    await lane.enqueue([plain_message("a", group="acme"), plain_message("b", group="big")])
    waiting: Any = lane.keys.part("waiting:normal")
    member: Any = (await redis.zrange(waiting, 0, 0))[0]
    ticket = int(member[-16:]) - 60 * 1000 * 200 * 4
    await redis.zadd(waiting, {b"4:acme:%016d" % ticket: 0})
    await write(redis, SAMPLE)
    assert 59 <= (await recent(redis)).oldest_seconds < 120


async def test_the_use_of_a_limit_is_the_sent_share_of_the_allowed_messages(redis: Client) -> None:
    lane = a_lane(redis, rate="10/s", burst=5)
    statistics: Any = lane.keys.part("statistics")
    await write(redis, SAMPLE, rate=10.0)
    await lane.enqueue([plain_message(str(number)) for number in range(20)])
    await lane.claim(5)
    await redis.hset(statistics, "at", round((await now(redis) - 1) * 1000))
    assert await Recording(redis, "relay", {"test": Policy("w1", 10.0, 0)}).write({"test": SAMPLE}) == {}
    found = await recent(redis)
    assert found.sent == 5
    assert 9 <= found.allowed <= 150
    assert found.limit_used is not None


async def test_an_operators_rate_counts_as_the_limit(redis: Client) -> None:
    statistics: Any = LaneKeys.of("relay", "test").part("statistics")
    await set_override(redis, "relay", "test", Override.of([parse_rate("1000/s"), parse_rate("200/s")]))
    await a_lane(redis).enqueue([plain_message("waits")])
    await write(redis, SAMPLE, rate=10.0)
    await redis.hset(statistics, "at", round((await now(redis) - 2) * 1000))
    assert await recording(redis, "w1", 10.0).write({"test": SAMPLE}) == {}
    assert 390 <= (await recent(redis)).allowed <= 3000


async def test_the_time_of_a_hold_is_counted_by_its_state(redis: Client) -> None:
    lane = a_lane(redis)
    statistics: Any = lane.keys.part("statistics")
    await lane.enqueue([plain_message("waits")])
    await lane.pause(Pause())
    await write(redis, SAMPLE)
    await redis.hset(statistics, "at", round((await now(redis) - 5) * 1000))
    await recording(redis).write({"test": SAMPLE})
    held = (await recent(redis)).held_seconds
    assert list(held) == ["paused"]
    assert 4.9 <= held["paused"] < 15


async def test_different_reasons_of_a_window_are_bounded(redis: Client) -> None:
    reasons = {f"reason {chr(97 + number)}": 1 for number in range(26)}
    await write(redis, Report("1", {}, reasons))
    await write(redis, Report("2", {}, reasons))
    found = (await recent(redis)).reasons
    assert len(found) == MOST_REASONS + 1
    assert found["other"] == 2 * (26 - MOST_REASONS)
    assert sum(found.values()) == 52


async def test_the_largest_groups_are_kept_whenever_they_begin(redis: Client) -> None:
    small = {f"small{number}": (1, 0) for number in range(20)}
    await write(redis, Report("first", {}, {}, small))
    for number in range(30):
        passing = {f"passing{number}-{place}": (1, 0) for place in range(15)}
        await write(redis, Report(str(number), {}, {}, {**passing, "large:1": (5, 1)}))
    groups = (await recent(redis)).groups
    assert len(groups) == 20
    assert next(iter(groups)) == "large:1"
    assert groups["large:1"] == GroupCounts(150, 30)
    assert sum(group.attempts for group in groups.values()) <= 180 + 20 + 30 * 15


async def test_a_window_keeps_its_groups_if_all_of_them_send(redis: Client) -> None:
    for number in range(3):
        await write(redis, Report(str(number), {}, {}, {f"g{place}": (0, 2) for place in range(20)}))
    groups = (await recent(redis)).groups
    assert groups == dict.fromkeys(groups, GroupCounts(0, 6))
    assert len(groups) == 20


async def test_minutes_and_hours_expire(redis: Client) -> None:
    await write(redis, Report("1", {"s:200": 1}))
    moment = int(await now(redis))
    keys = LaneKeys.of("relay", "test")
    for unit, step in SECONDS.items():
        key, kept = keys.statistics(unit, moment // step * step), KEEP[unit]
        if not await redis.exists(key):  # it has just begun
            key = keys.statistics(unit, moment // step * step - step)
        left = await redis.ttl(key)
        assert kept - 100 < left <= kept


async def test_hours_have_the_sums_of_their_minutes(redis: Client) -> None:
    await write(redis, Report("1", {"s:200": 3, "d:4": 3, "d:sum": 100}))
    moment = await now(redis)
    minutes = await read_minutes(redis, "relay", "test", now=moment, minutes=60)
    hours = await read_hours(redis, "relay", "test", now=moment, hours=2)
    assert merged(counts for _, counts in minutes) == merged(counts for _, counts in hours)


async def test_reports_of_many_lanes_are_written_at_once(redis: Client) -> None:
    names = [f"lane-{number}" for number in range(30)]
    reports = dict.fromkeys(names, Report("1", {"s:200": 1}))
    assert await recording(redis, "w1", 0.0, *names).write(reports) == {}
    found = await read_recent(redis, "relay", names, now=await now(redis), minutes=2)
    assert [counts.statuses for counts in found.values()] == [{"200": 1}] * 30


async def test_a_lane_whose_key_has_a_wrong_type_loses_its_report_alone(redis: Client) -> None:
    await redis.set(LaneKeys.of("relay", "wrong").part("statistics"), "text")
    both = recording(redis, "w1", 0.0, "wrong", "right")
    report = Report("1", {"s:200": 1})
    assert list(await both.write({"wrong": report, "right": report})) == ["wrong"]
    found = await read_recent(redis, "relay", ["right", "wrong"], now=await now(redis), minutes=2)
    assert found["right"].statuses == {"200": 1}
    await redis.delete(LaneKeys.of("relay", "wrong").part("statistics"))
    assert await both.write({"wrong": report, "right": report}) == {}
    found = await read_recent(redis, "relay", ["right", "wrong"], now=await now(redis), minutes=2)
    assert [counts.statuses for counts in found.values()] == [{"200": 1}] * 2
