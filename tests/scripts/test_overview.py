"""The state of a fleet as operators see it: lanes of other files, settings in force, ages."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from relay.operations.documents import provider_document
from relay.redis_client.client import Client
from relay.settings.digest import digest
from relay.settings.load import loads
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.store import lane_settings
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.fleet_findings import findings
from relay.store.lane_settings import Published
from relay.store.lane_status import FURTHER_HEADS, read_lanes
from relay.store.overview import LaneStatus, read_overview, read_provider
from relay.store.record import scoped
from testing.builders import a_lane, a_message, plain_message

HOUR = 3600.0


class SecretiveOptions(ProviderOptions):
    """Options of an adapter with a secret."""

    password: str = ""


def settings(**providers: dict[str, Any]) -> Settings:
    document = {
        "queues": [{"name": f"{name}-queue", "provider": name} for name in providers],
        "providers": {name: {"type": "test", **options} for name, options in providers.items()},
    }
    return loads(json.dumps(document), Path("relay.yaml"), {"test": SecretiveOptions})


async def join(redis: Client, name: str, file: Settings, started: float = 1.0) -> WorkerInfo:
    """Let a worker with this file join the fleet."""
    info = WorkerInfo(
        worker=name,
        host="host",
        host_id="",
        pid=1,
        version="1",
        started=started,
        lanes=tuple(file.providers),
        queues=tuple(queue.name for queue in file.queues),
        settings=digest(file),
    )
    await Fleet(redis, "relay").heartbeat(info)
    await lane_settings.publish(redis, "relay", info.settings, Published.of(file))
    return info


async def lane_of(redis: Client, provider: str = "test", later: float = 0.0) -> LaneStatus:
    """The state of a lane, as if it were read later."""
    now = await Fleet(redis, "relay").now()
    (lane,) = await read_lanes(redis, "relay", {provider: ["w1"]}, now + later)
    return lane


async def test_a_viewer_with_another_file_sees_the_lanes_and_queues_of_the_fleet(redis: Client) -> None:
    await join(
        redis, "a", settings(pusher={"rate": "50/s", "groups": {"rate": "5/s"}}, hook={"order": "lifo"})
    )
    viewer = settings(hook={"rate": "1/h"}, own={})
    overview = await read_overview(redis, viewer)
    rows = {lane.provider: (lane.rate, lane.configured, lane.served) for lane in overview.lanes}
    assert rows == {
        "hook": ("unlimited", True, True),
        "own": ("unlimited", True, False),
        "pusher": ("50/s, 5/s a group", False, True),
    }
    assert {queue.name: queue.served for queue in overview.queues} == {
        "hook-queue": True,
        "own-queue": False,
        "pusher-queue": True,
    }
    (alone,) = (await read_provider(redis, viewer, "pusher")).lanes
    assert alone.rate == "50/s, 5/s a group"


async def test_published_settings_contain_no_secret(redis: Client) -> None:
    await join(redis, "a", settings(pusher={"password": "hunter2", "max_backlog": 7}))
    published = await redis.execute_command("HGETALL", "relay:{fleet}:lane-settings")
    assert "hunter2" not in str(published)
    (lane,) = (await read_overview(redis, settings(own={}))).lanes[1:]
    assert lane.settings is not None
    assert lane.settings.options == {"max_backlog": 7}


async def test_the_settings_of_the_newest_worker_win_and_the_difference_is_found(redis: Client) -> None:
    new, old = settings(pusher={"rate": "2/s"}, hook={}), settings(pusher={"rate": "1/s"}, hook={})
    await join(redis, "new", new, started=2.0)
    await join(redis, "old", old, started=1.0)
    overview = await read_overview(redis, new)
    assert [lane.rate for lane in overview.lanes] == ["2/s", "unlimited"]
    assert overview.differing == ["pusher"]
    assert any(
        "workers use different settings for pusher:" in line for line in findings(overview, digest(new))
    )


async def test_settings_go_when_neither_a_worker_nor_a_lane_needs_them(redis: Client) -> None:
    new, old = settings(hook={}), settings(pusher={"rate": "1/s"})
    info = await join(redis, "new", new)
    await lane_settings.publish(redis, "relay", digest(old), Published.of(old))
    await lane_settings.forget_unused(redis, "relay", [info.settings], ["hook", "pusher"])
    assert set((await lane_settings.read(redis, "relay")).published) == {digest(new), digest(old)}
    await lane_settings.forget_unused(redis, "relay", [info.settings], ["hook"])
    assert set((await lane_settings.read(redis, "relay")).published) == {digest(new)}
    await lane_settings.forget_unused(redis, "relay", ["of a worker of an older version"], ["hook"])
    assert set((await lane_settings.read(redis, "relay")).published) == {digest(new)}


async def test_settings_that_cannot_be_read_leave_the_lanes_to_be_seen(redis: Client) -> None:
    file = settings(hook={"rate": "3/s"})
    await redis.execute_command("HSET", "relay:{fleet}:lane-settings", b"\xff", b"{", "x", b"[" * 9999)
    (lane,) = (await read_overview(redis, file)).lanes
    assert lane.rate == "3/s"
    await redis.delete("relay:{fleet}:lane-settings")
    await redis.execute_command("SET", "relay:{fleet}:lane-settings", "text")
    overview = await read_overview(redis, file)
    assert overview.lanes[0].rate == "3/s"
    assert "WRONGTYPE" in overview.errors[0]


async def test_the_age_of_a_lane_is_that_of_its_oldest_message(redis: Client) -> None:
    lane = a_lane(redis)
    assert (await lane_of(redis)).oldest_seconds is None
    await lane.enqueue([plain_message("1", priority="low")])
    age = (await lane_of(redis, later=HOUR)).oldest_seconds
    assert age is not None
    assert HOUR <= age < HOUR + 600
    await lane.enqueue([plain_message("2", priority="high")])
    later = (await lane_of(redis, later=HOUR)).oldest_seconds
    assert later is not None
    assert later >= age
    claims = (await lane.claim(9)).claims
    assert (await lane_of(redis)).oldest_seconds is None, "messages in flight do not wait"
    assert len(claims) == 2


async def test_a_delayed_message_has_an_age_only_once_it_is_due(redis: Client) -> None:
    now = await Fleet(redis, "relay").now()
    await a_lane(redis).enqueue([a_message("late", deliver_at=now + HOUR)])
    assert (await lane_of(redis)).oldest_seconds is None
    age = (await lane_of(redis, later=2 * HOUR)).oldest_seconds
    assert age is not None
    assert age >= 2 * HOUR


async def test_messages_that_have_ended_do_not_count_for_the_age(redis: Client) -> None:
    """A list may still hold their tickets."""
    lane = a_lane(redis)
    ids = [f"m{number}" for number in range(FURTHER_HEADS // 10)]
    await lane.enqueue([a_message(each) for each in ids])
    between = await Fleet(redis, "relay").now()
    while await Fleet(redis, "relay").now() < between + 0.05:
        pass
    await lane.enqueue([a_message("last")])
    for each in ids:
        await lane.cancel(scoped(each, ""), [])
    now = await Fleet(redis, "relay").now()
    (found,) = await read_lanes(redis, "relay", {"test": []}, now)
    assert found.oldest_seconds is not None
    assert found.oldest_seconds <= now - between
    assert found.waiting == 1
    await lane.cancel(scoped("last", ""), [])
    assert (await lane_of(redis)).oldest_seconds is None


async def test_the_age_of_a_lane_includes_its_groups_and_fan_outs(redis: Client) -> None:
    await a_lane(redis, groups={"by": "message"}).enqueue([a_message("one", group="g")])
    age = (await lane_of(redis, later=HOUR)).oldest_seconds
    assert age is not None
    assert age >= HOUR


async def test_a_lane_that_returns_messages_is_as_old_as_the_oldest_of_them(redis: Client) -> None:
    """With `lifo` they return to the end of the list."""
    lane = a_lane(redis, order="lifo")
    await lane.enqueue([plain_message("old")])
    await lane.claim(1)
    between = await Fleet(redis, "relay").now()
    await lane.enqueue([plain_message("new")])
    await lane.release()
    (found,) = await read_lanes(redis, "relay", {"test": []}, between + HOUR)
    assert found.oldest_seconds is not None
    assert found.oldest_seconds >= HOUR


async def test_a_queue_is_as_old_as_its_first_element(redis: Client) -> None:
    file = settings(hook={})

    async def age(element: bytes) -> float | None:
        await redis.delete("hook-queue")
        await redis.rpush("hook-queue", element, b'{"payload": {}}')
        (queue,) = (await read_overview(redis, file)).queues
        assert queue.waiting == 2
        return queue.oldest_seconds

    then = time.time() - HOUR
    for element in (b'{"created_at": %d, "payload": {}}' % then, b'{"id": "%s"}' % _uuid7(then)):
        found = await age(element)
        assert found is not None
        assert HOUR - 60 < found < HOUR + 600
    assert await age(b'{"created_at": %d}' % (then + 2 * HOUR)) == 0
    hostile = (b"{", b"\xff", b'{"created_at": "yesterday"}', b'{"created_at": 1e999}', b"[" * 5000)
    for element in (*hostile, b'{"created_at": %d, "x": "%s"}' % (then, b"x" * 70_000)):
        assert await age(element) is None


def _uuid7(at: float) -> bytes:
    return b"%08x-%04x-7abc-8def-0123456789ab" % divmod(round(at * 1000), 1 << 16)


async def test_the_status_of_a_provider_has_the_reasons_and_durations_of_the_last_hour(redis: Client) -> None:
    """Percentiles are exact to the width of a bucket."""
    lane = a_lane(redis, name="hook")
    await lane.enqueue([plain_message("1")])
    now = await Fleet(redis, "relay").now()
    key = lane.keys.statistics("minute", int(now) // 60 * 60)
    fields: dict[Any, Any] = {
        "o:delivered": 3,
        "o:retried": 2,
        "r:refused \x1b[2J": 2,
        "s:503": 2,
        "d:10": 3,
        "d:sum": 90,
    }
    await redis.hset(key, mapping=fields)
    document: Any = provider_document(await read_provider(redis, settings(hook={}), "hook"))
    assert document["reasons"] == [{"reason": "refused \x1b[2J", "count": 2}]
    assert document["outcomes"]["delivered"] == 3
    assert document["statuses"] == {"503": 2}
    assert set(document["delivery_seconds"]) == {"p50", "p95", "p99"}
    assert 0 < document["delivery_seconds"]["p50"] <= document["delivery_seconds"]["p99"]
    assert document["request_seconds"] == {"p50": None, "p95": None, "p99": None}
    assert document["errors_per_second"] > 0
