"""Rates that an operator sets for a while, on every installed Redis and on a cluster. The clock is set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.operations import lanes, rates
from relay.operations.reload import reload_fleet
from relay.redis_client.client import Client
from relay.settings.models import QueueSettings, Settings
from relay.settings.values import parse_rate
from relay.store import audit, override
from relay.store.alerts import AlertBook, AlertStore
from relay.store.claims import Hold
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.keys import control_key
from relay.store.lane import Lane
from relay.store.lane_status import read_lane
from relay.store.override import Override
from testing.builders import a_lane, options, plain_message
from testing.clock import set_clock, settable_clock

CONTROL = control_key("relay", "test")
BEGIN = 1000


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    with settable_clock():
        yield


async def order(redis: Client, *rates: str, at: float = BEGIN, until: float = 0.0) -> None:
    new = Override.of([parse_rate(rate) for rate in rates], at=at, until=until, by="ann@ops1", reason="less")
    await override.set_override(redis, "relay", "test", new)


async def fill(lane: Lane, messages: int = 900) -> None:
    await lane.enqueue([plain_message(str(number)) for number in range(messages)])


async def claimed_in(redis: Client, lanes: list[Lane], seconds: range) -> list[int]:
    """The number of messages that these workers claim in each second, each worker 20 times a second."""
    found = []
    for second in seconds:
        claimed = 0
        for part in range(20):
            await set_clock(redis, second, part * 50_000)
            for lane in lanes:
                claimed += len((await lane.claim(100)).claims)
        found.append(claimed)
    return found


@pytest.mark.parametrize("configured", ["10/s", "1000/s", None])
async def test_an_override_limits_all_workers_together_and_ends_by_the_clock_of_redis(
    redis: Client, configured: str | None
) -> None:
    workers = [a_lane(redis, worker=name, rate=configured) for name in ("w1", "w2")]
    await set_clock(redis, BEGIN)
    await fill(workers[0])
    await order(redis, "40/s", until=BEGIN + 5)
    speeds = await claimed_in(redis, workers, range(BEGIN, BEGIN + 5))
    assert all(39 <= speed <= 41 for speed in speeds[1:])
    assert 36 <= speeds[0] <= 40  # its bucket starts empty
    (after,) = await claimed_in(redis, workers, range(BEGIN + 5, BEGIN + 6))
    assert after == 10 if configured == "10/s" else after > 400
    assert await redis.hget(CONTROL, override.FIELD) is None


async def test_several_rates_of_an_override_apply_together(redis: Client) -> None:
    lane = a_lane(redis, rate="1000/s")
    await set_clock(redis, BEGIN)
    await fill(lane)
    await order(redis, "40/s", "60/m")
    assert sum(await claimed_in(redis, [lane], range(BEGIN, BEGIN + 10))) in (9, 10)


async def test_a_worker_waits_for_a_token_no_longer_than_the_override_lasts(redis: Client) -> None:
    lane = a_lane(redis)
    await set_clock(redis, BEGIN)
    await fill(lane, 1)
    await order(redis, "1/d", until=BEGIN + 2)
    claimed = await lane.claim(1)
    assert (claimed.claims, claimed.reason, claimed.wait) == ([], "rate", 2.0)
    await set_clock(redis, BEGIN + 2)
    assert len((await lane.claim(1)).claims) == 1


async def test_a_claim_under_an_override_returns_its_lowest_rate(redis: Client) -> None:
    lane = a_lane(redis, rate="1000/s")
    await set_clock(redis, BEGIN)
    await fill(lane)
    assert (await lane.claim(1)).override is None
    await order(redis, "50/s", "200/s")
    await set_clock(redis, BEGIN + 1)
    claimed = await lane.claim(3)
    assert (len(claimed.claims), claimed.override) == (3, 50.0)
    assert await override.clear_override(redis, "relay", "test")
    assert not await override.clear_override(redis, "relay", "test")
    assert (await lane.claim(3)).override is None


async def test_a_warm_up_climbs_to_the_rate_of_the_override(redis: Client) -> None:
    lane = a_lane(redis, rate="1000/s", burst=1, warmup=10)
    await set_clock(redis, BEGIN)
    await fill(lane)
    await order(redis, "40/s")
    speeds = await claimed_in(redis, [lane], range(BEGIN, BEGIN + 12))
    assert 4 <= speeds[0] <= 10
    assert 18 <= speeds[5] <= 30
    assert 39 <= speeds[11] <= 41


async def test_an_adaptive_lane_halves_the_rate_of_the_override_too(redis: Client) -> None:
    lane = a_lane(redis, rate="1000/s", adaptive=True)
    await set_clock(redis, BEGIN)
    await fill(lane)
    await order(redis, "40/s")
    await claimed_in(redis, [lane], range(BEGIN, BEGIN + 1))
    await lane.settle([], Hold(0.01, "429"))
    assert 20 <= (await claimed_in(redis, [lane], range(BEGIN + 1, BEGIN + 2)))[0] <= 26
    assert 39 <= (await claimed_in(redis, [lane], range(BEGIN + 60, BEGIN + 62)))[1] <= 41


async def test_an_override_limits_a_lane_with_groups_as_a_whole(redis: Client) -> None:
    lane = a_lane(redis, groups={"by": "message", "rate": [], "concurrency": 1000})
    await set_clock(redis, BEGIN)
    await lane.enqueue([plain_message(str(number), group=f"g{number % 9}") for number in range(300)])
    await order(redis, "40/s")
    speeds = await claimed_in(redis, [lane], range(BEGIN, BEGIN + 3))
    assert all(39 <= speed <= 41 for speed in speeds[1:])


@pytest.mark.parametrize(
    "value",
    [
        "",
        "no JSON",
        "[]",
        "1",
        "null",
        '{"until": 0}',
        '{"until": 0, "rates": []}',
        '{"until": null, "rates": [["1/d", 1, 1]]}',
        '{"until": 0, "rates": {"a": 1}}',
        '{"until": 0, "rates": [["1/d", 0, 1]]}',
        '{"until": 0, "rates": [["1/d", -1, 1]]}',
        '{"until": 0, "rates": [["1/d", "x", 1], 7, [null, 1, 1], ["1/d", 1, 0]]}',
        "[" * 5000,
        b"\xff\xfe",
    ],
)
async def test_an_override_that_cannot_be_read_is_none(redis: Client, value: str | bytes) -> None:
    await redis.hset(CONTROL, override.FIELD, value)
    lane = a_lane(redis, rate="1000/s")
    await set_clock(redis, BEGIN)
    await fill(lane, 10)
    claimed = await lane.claim(10)
    assert (len(claimed.claims), claimed.override) == (10, None)


async def test_an_override_is_read_as_it_was_written(redis: Client) -> None:
    assert await override.read(redis, "relay", "test", BEGIN) is None
    await order(redis, "50/s", "20/10m", until=BEGIN + 3600)
    found = await override.read(redis, "relay", "test", BEGIN + 1)
    assert found is not None
    assert (found.text, found.per_second) == ("50/s, 20/10m", 20 / 600)
    assert [rate.burst for rate in found.rates] == [5, 1]
    assert (found.at, found.until, found.by, found.reason) == (BEGIN, BEGIN + 3600, "ann@ops1", "less")
    assert str(found) == "50/s, 20/10m until 1970-01-01T01:16:40Z, by ann@ops1: less"
    assert await override.read(redis, "relay", "test", BEGIN + 3600) is None


async def test_a_hostile_override_controls_no_terminal(redis: Client) -> None:
    hostile = '{"rates": [["\\u001b[2J", 1, 1]], "until": 1e300, "by": "\\u202e", "reason": "a\\nb"}'
    await redis.hset(CONTROL, override.FIELD, hostile)
    found = await override.read(redis, "relay", "test", BEGIN)
    assert str(found).isprintable()


async def test_operators_control_a_fleet_whose_redis_is_out_of_memory(redis: Client) -> None:
    settings = Settings(queues=[QueueSettings(name="q", provider="test")], providers={"test": options()})
    await set_clock(redis, BEGIN)
    await Fleet(redis, "relay").heartbeat(WorkerInfo("w1", "h", "", 1, "1", 0.0))
    await redis.config_set("maxmemory", 1)
    try:
        await lanes.pause(redis, settings, "test", seconds=None, because="full", who="ann")
        rate = (parse_rate("1/s"),)
        await rates.set_rate(redis, settings, "test", rate, seconds=None, because="full", who="ann")
        assert await AlertStore(redis, "relay").replace(b"", AlertBook(checked=1.0))
        (report,) = await reload_fleet(redis, settings, who="ann", because="full", wait=0.0)
        assert report.error == "no report within 0 s"
        status = await read_lane(redis, "relay", "test", [], BEGIN)
        assert (status.state, status.rate) == ("paused", "1/s")
        await lanes.resume(redis, settings, "test", because="", who="ann")
        assert await rates.reset_rate(redis, settings, "test", because="", who="ann")
    finally:
        await redis.config_set("maxmemory", 0)
    actions = [entry.action for entry in await audit.read(redis, "relay")]
    assert actions == ["rate-reset", "resume", "reload", "rate", "pause"]
