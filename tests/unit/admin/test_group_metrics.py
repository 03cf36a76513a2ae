"""The metrics of groups: only the largest of each lane, because each group is a time series."""

from __future__ import annotations

import re
import time

from redis.asyncio import Redis

from testing.builders import a_lane, a_message
from tests.unit.admin.test_lane_states import metrics


def samples(text: str, name: str) -> dict[str, float]:
    """The values of a metric by group."""
    found = re.findall(rf'^{name}\{{group="([^"]*)",provider="hook".*\}} (\S+)$', text, re.MULTILINE)
    return {group: float(value) for group, value in found}


async def test_the_twenty_largest_groups_have_metrics(redis: Redis) -> None:
    lane = a_lane(redis, name="hook", groups={})
    await lane.enqueue([a_message(group=f"g{number:02}") for number in range(30) for _ in range(number + 1)])
    text = await metrics(redis)
    waiting = samples(text, "relay_group_waiting")
    assert waiting == {f"g{number:02}": number + 1 for number in range(10, 30)}
    assert samples(text, "relay_group_oldest_seconds").keys() == waiting.keys()
    assert samples(text, "relay_group_in_flight") == dict.fromkeys(waiting, 0)
    assert samples(text, "relay_group_held") == {}
    assert 'relay_lane_groups{provider="hook"} 30.0' in text


async def test_a_held_group_has_its_state_in_the_metrics(redis: Redis) -> None:
    lane = a_lane(redis, name="hook", groups={"concurrency": 1})
    await lane.enqueue([a_message(group=group) for group in "aabbc"])
    await lane.pause_group("b", time.time() + 3600)
    await lane.claim(9)
    text = await metrics(redis)
    assert 'relay_group_held{group="b",provider="hook",state="paused"} 1.0' in text
    assert 'relay_group_held{group="a",provider="hook",state="full"} 1.0' in text
    assert samples(text, "relay_group_in_flight") == {"a": 1, "b": 0, "c": 1}


async def test_names_that_are_printed_alike_are_one_series(redis: Redis) -> None:
    """Prometheus refuses a whole scrape with two samples of one series."""
    lane = a_lane(redis, name="hook", groups={})
    await lane.enqueue([a_message(group="\x1b"), a_message(group="\\x1b"), a_message(group='a"b\n')])
    text = await metrics(redis)
    series = re.findall(r"^(relay_group_waiting\{.*\}) ", text, re.MULTILINE)
    assert len(series) == len(set(series)) == 2
    assert "\x1b" not in text
