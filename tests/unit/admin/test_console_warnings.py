"""A warning stands on the overview while it is true, and no longer."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from html import unescape
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from relay.admin.console.sampler import SamplerTuning
from relay.errors import StoreError
from relay.operations.rates import parse_rates
from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.store import lane_settings, registry
from relay.store.deployment import Deployment, ReloadFailure
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.keys import FleetKeys, LaneKeys
from relay.store.lane_settings import LaneSettings, Published
from relay.store.override import Override, clear_override, set_override
from relay.store.registry import Names
from relay.store.states import State
from relay.store.vitals import Duty, Vitals
from testing.builders import a_lane, a_message
from testing.console_server import console_server, console_settings
from testing.redis_server import RedisServer

CONFIG = """
queues: [{name: q, provider: test}]
providers: {test: {type: webhook, url: "https://h.example/", groups: {by: message}}}
admin: {listen: "127.0.0.1:PORT"}
"""

FRESH = SamplerTuning(interval=0.0, share=1.0, servers=0.0)
"""Each page reads everything."""

LANE = LaneKeys.of("relay", "test")
FLEET = FleetKeys("relay")


class Site:
    """A fleet with one worker, and its overview."""

    def __init__(self, redis: Redis, settings: Settings, url: str, session: ClientSession) -> None:
        self.redis = redis
        self.settings = settings
        self._url = url
        self._session = session

    async def beat(self, **fields: Any) -> None:
        """Let the worker publish these facts, and correct ones for all others."""
        info = WorkerInfo("w1", "web", "h", 1, "0.1.0", time.time(), ("test",), ("q",), digest(self.settings))
        await Fleet(self.redis, "relay").heartbeat(msgspec.structs.replace(info, **fields))

    async def troubles(self) -> str:
        """Return the headline and the list of troubles, as text."""
        async with self._session.get(f"{self._url}/") as answer:
            page = await answer.text()
        assert answer.status == 200, page
        shown = page.partition('data-block="headline"')[2].partition("<h2>Lanes</h2>")[0]
        return unescape(re.sub(r"<[^>]*>", " ", shown))


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.fixture
async def site(redis: Redis) -> AsyncIterator[Site]:
    settings = console_settings(CONFIG)

    async def client() -> Redis:
        return redis

    async with console_server(settings, client, FRESH) as url, ClientSession() as session:
        found = Site(redis, settings, url, session)
        await found.beat()
        yield found


Act = Callable[[Site], Awaitable[object]]


def a_state(state: State) -> tuple[Act, Act]:
    """Return how a lane gets into a state, and out of it."""

    async def begin(site: Site) -> None:
        now = round(time.time() * 1000)
        fields: Any = {
            "state": str(state),
            "since": now,
            "hold": now + 60_000,
            "reason": "because",
        }
        await site.redis.hset(LANE.part("control"), mapping=fields)

    async def end(site: Site) -> None:
        await site.redis.hdel(LANE.part("control"), "state", "since", "hold", "reason")

    return begin, end


def a_worker(**fields: Any) -> tuple[Act, Act]:
    """Return a heartbeat with these fields, and one without."""
    return (lambda site: site.beat(**fields)), (lambda site: site.beat())


def a_key(key: str) -> tuple[Act, Act]:
    """Return how another program takes a key, and how it is freed."""
    return (lambda site: site.redis.set(key, "x")), (lambda site: site.redis.delete(key))


def a_group(**fields: Any) -> tuple[Act, Act]:
    """Return how a group gets a state, and how it is enabled again."""

    async def begin(site: Site) -> None:
        now = round(time.time() * 1000)
        record = msgspec.msgpack.encode({"since": now, "hold": now + 60_000, "failures": 12, **fields})
        await site.redis.hset(LANE.part("groups"), "tenant-7", record)

    return begin, (lambda site: site.redis.hdel(LANE.part("groups"), "tenant-7"))


async def kill(site: Site) -> None:
    await site.redis.zadd(FLEET.workers, {"w1": 1.0})


async def pause(site: Site) -> None:
    await a_lane(site.redis).pause()


async def resume(site: Site) -> None:
    await a_lane(site.redis).resume()


async def override(site: Site) -> None:
    await set_override(site.redis, "relay", "test", Override.of(parse_rates("7/s"), by="ann"))


async def no_override(site: Site) -> None:
    await clear_override(site.redis, "relay", "test")


async def wait_unserved(site: Site) -> None:
    await a_lane(site.redis).enqueue([a_message("a")])
    await site.beat(lanes=("other",))


async def forget_queue(site: Site) -> None:
    await registry.register(site.redis, "relay", Names((), ("forgotten",)))
    await site.redis.rpush("forgotten", "{}")


async def forget_lane(site: Site) -> None:
    await registry.register(site.redis, "relay", Names(("renamed",), ()))
    await site.redis.xadd(LaneKeys.of("relay", "renamed").part("dead"), {"reason": "413"})


async def evict(site: Site) -> None:
    await site.redis.config_set("maxmemory-policy", "allkeys-lru")


async def keep(site: Site) -> None:
    await site.redis.config_set("maxmemory-policy", "noeviction")


async def differ(site: Site) -> None:
    for name, rate in ((digest(site.settings), "1/s"), ("other", "2/s")):
        published = Published(0.0, {"test": LaneSettings(type="webhook", rate=rate)})
        await lane_settings.publish(site.redis, "relay", name, published)
    other = WorkerInfo("w2", "web-2", "h", 2, "0.1.0", time.time(), ("test",), ("q",), "other")
    await Fleet(site.redis, "relay").heartbeat(other)


async def agree(site: Site) -> None:
    await site.redis.zrem(FLEET.workers, "w2")
    await site.redis.hdel(FLEET.profiles, "w2")


WARNINGS: dict[str, tuple[tuple[Act, Act], str]] = {
    "no worker": ((kill, lambda site: site.beat()), "no worker is alive"),
    "paused": ((pause, resume), "test is paused"),
    "throttled": (a_state(State.THROTTLED), "test asked relay to wait"),
    "trial": (a_state(State.TRIAL), "test refused a message"),
    "open": (a_state(State.OPEN), "test fails"),
    "unauthorised": (a_state(State.UNAUTHORISED), "test refuses our credentials"),
    "unregistered": (a_state(State.UNREGISTERED), "test has too many targets that are gone"),
    "faulty": (a_state(State.FAULTY), "the adapter of test fails"),
    "rate": ((override, no_override), "test sends at an operator's rate 7/s, by ann"),
    "disabled group": (a_group(disabled=1), "1 group is disabled"),
    "failing group": (a_group(state="open"), "the breaker of 1 group is open"),
    "unreadable lane": (a_key(LANE.part("bodies")), "some keys of test cannot be read"),
    "unserved lane": ((wait_unserved, lambda site: site.beat()), "no worker serves test"),
    "lane of no file": (
        (forget_lane, lambda site: site.redis.delete(LaneKeys.of("relay", "renamed").part("dead"))),
        "renamed holds messages and is not in the file",
    ),
    "unreadable queue": (a_key("q"), "the queue q cannot be read"),
    "unread queue": (
        (forget_queue, lambda site: site.redis.delete("forgotten")),
        "no worker reads the queue forgotten",
    ),
    "refused command": (a_key(FLEET.lanes), "Redis refuses a command"),
    "failed reload": (
        a_worker(deployment=Deployment(reload_failure=ReloadFailure("relay.yaml:1:2: …", 0, 1.0))),
        "reload failed on web",
    ),
    "other settings": (a_worker(settings="0ther"), "1 of the workers use other settings than this file"),
    "different settings": ((differ, agree), "workers use different settings for test"),
    "drained worker": (
        a_worker(vitals=Vitals(0.0, 1, 0, Duty.DRAINED)),
        "an operator keeps 1 of 1 workers from taking messages",
    ),
    "missing worker": (a_worker(deployment=Deployment("sup", 2)), "1 of 2 workers of supervisor sup"),
    "evicting Redis": ((evict, keep), "Redis: eviction"),
}


@pytest.mark.parametrize("warning", WARNINGS)
async def test_a_warning_appears_when_it_is_true_and_goes_when_it_is_over(site: Site, warning: str) -> None:
    (begin, end), text = WARNINGS[warning]
    before = re.sub(r"\s+", " ", await site.troubles())
    assert text not in before
    await begin(site)
    assert text in re.sub(r"\s+", " ", await site.troubles())
    await end(site)
    after = re.sub(r"\s+", " ", await site.troubles())
    assert text not in after
    # A message that waits is no trouble, but it is counted.
    assert warning == "unserved lane" or after == before


async def test_a_redis_that_does_not_answer_is_the_first_trouble_until_it_does(redis: Redis) -> None:
    settings = console_settings(CONFIG)
    problem = ""

    async def client() -> Redis:
        if problem:
            raise StoreError(problem)
        return redis

    async with console_server(settings, client, FRESH) as url, ClientSession() as session:
        site = Site(redis, settings, url, session)
        await site.beat()
        before = await site.troubles()
        problem = "connection <refused>"
        troubles = re.sub(r"\s+", " ", await site.troubles()).removeprefix("> ").strip()
        assert troubles.startswith("Redis does not answer. The numbers are those of ")
        assert "Redis does not answer connection <refused>" in troubles
        # Programs do not see which numbers are old, so they get none.
        for path in ("overview", "lanes", "queues", "workers"):
            async with session.get(f"{url}/api/v1/{path}") as answer:
                assert (answer.status, "connection <refused>" in await answer.text()) == (503, True), path
        problem = ""
        assert await site.troubles() == before
