"""Holds of a lane on every installed Redis: probes, and the times of those that are over."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.engine.policy import Policy
from relay.outcome import Delivered, Outcome, Retry
from relay.redis_client.client import Client
from relay.store import holds
from relay.store.claims import Claim, Hold
from relay.store.fleet import Fleet
from relay.store.lane import Lane
from relay.store.lane_detail import read_detail
from relay.store.pause import Pause
from relay.store.recording import SAMPLE, Recording
from relay.store.recording import Policy as RecordingPolicy
from testing.builders import a_lane, a_message, options, plain_message


async def settle(lane: Lane, claims: Sequence[Claim], outcome: Outcome) -> None:
    policy = Policy(options(retry={"base": 3600.0}))  # a retry within the test is next to impossible
    await lane.settle([policy.settle(claim, outcome) for claim in claims])


async def claim(lane: Lane, most: int = 1) -> Sequence[Claim]:
    return list((await lane.claim(most)).claims)


async def ended(redis: Client) -> list[holds.Hold]:
    """Record the holds that have ended, as a worker does each second, and return the newest first."""
    await redis.hdel(a_lane(redis).keys.part("statistics"), "at")  # otherwise another worker may have done it
    recording = Recording(redis, "relay", {"test": RecordingPolicy("w1", 0.0, 100)})
    assert await recording.write({"test": SAMPLE}) == {}
    return await holds.read(redis, "relay", "test", since=0.0)


async def test_a_probe_sends_one_message_of_a_lane_that_holds(redis: Client) -> None:
    lane = a_lane(redis, breaker={"failures": 2, "cooldown": 3600})
    await lane.enqueue([plain_message(str(number)) for number in range(4)])
    assert await lane.probe() == ""
    await settle(lane, await claim(lane, 2), Retry("refused"))
    assert (await lane.claim(1)).reason == "open"
    assert await lane.probe() == "open"
    probe = await claim(lane, 4)
    assert len(probe) == 1
    assert (await lane.claim(1)).reason == "open"
    await settle(lane, probe, Delivered())
    assert len(await claim(lane, 4)) == 1  # the others wait for their next attempt


async def test_a_lane_that_is_paused_or_throttled_is_not_probed(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.settle([], Hold(3600, "429"))
    assert await lane.probe() == "throttled"
    await lane.pause()
    assert await lane.probe() == "paused"


async def test_holds_and_pauses_are_remembered_with_their_times(redis: Client) -> None:
    lane = a_lane(redis, breaker={"failures": 1, "cooldown": 3600})
    began = await Fleet(redis, "relay").now()
    await lane.enqueue([plain_message(str(number)) for number in range(3)])
    await settle(lane, await claim(lane), Retry("refused"))
    detail = await read_detail(redis, "relay", "test", since=0.0)
    assert detail.since is not None
    await lane.probe()
    await settle(lane, await claim(lane), Delivered())
    (opened,) = await ended(redis)
    assert (opened.state, opened.reason) == ("open", "1 failures in a row: refused")
    assert began - 0.001 <= opened.since == detail.since <= opened.ended
    await lane.pause(Pause(at=began, by="ann@ops1", reason="work"))
    await lane.resume()
    paused, _ = await ended(redis)
    assert (paused.state, paused.reason) == ("paused", "work")
    assert began == pytest.approx(paused.since, abs=0.002)
    await lane.settle([], Hold(0.001, "429: slow down"))
    while not await claim(lane):
        pass
    throttled, *_ = await ended(redis)
    assert (throttled.state, throttled.reason) == ("throttled", "429: slow down")
    assert len(await ended(redis)) == 3


async def test_all_holds_between_two_flushes_are_remembered_but_not_without_end(redis: Client) -> None:
    lane = a_lane(redis)
    for number in range(3):
        await lane.settle([], Hold(3600, f"429, answer {number}"))
        await lane.resume()
    assert [hold.reason for hold in await ended(redis)] == ["429, answer 2", "429, answer 1", "429, answer 0"]
    # Nobody flushes the lane.
    for _ in range(20):
        await lane.settle([], Hold(3600, "x" * 500))
        await lane.resume()
    assert await redis.hstrlen(lane.keys.part("control"), "ended") < 5000
    assert 3 < len(await ended(redis)) < 20
    # Another program wrote the field.
    await redis.hset(lane.keys.part("control"), "ended", b"\xc1")
    before = len(await ended(redis))
    assert len(await ended(redis)) == before


async def test_the_backlog_is_split_by_priority_and_ordering_key(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue(
        [
            plain_message("a", priority="high"),
            plain_message("b"),
            *(a_message(f"in-order-{number}", priority="low", ordering_key="k") for number in range(3)),
        ]
    )
    detail = await read_detail(redis, "relay", "test", since=0.0)
    assert detail.priorities == {"high": 1, "normal": 1, "low": 1}
    assert (detail.blocked, detail.since, detail.holds) == (2, None, [])
