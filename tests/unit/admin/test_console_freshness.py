"""The console has its numbers ready, reads them once for all pages, and shows none from before an action."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from relay.admin.console.cache import Cache
from relay.admin.console.rendering import environment
from relay.admin.console.sampler import Sampler, SamplerTuning
from relay.errors import StoreError
from relay.settings.models import Settings
from relay.store.journal import JournalEntry, encode, journal_stream
from relay.store.keys import LaneKeys
from relay.store.lane_settings import Published
from testing.console_server import console_server, console_settings
from testing.redis_server import RedisServer

ValueT = TypeVar("ValueT")

LANES = 60

FOREVER = SamplerTuning(interval=3600.0)
"""A sample is good for as long as the test takes, on any machine."""


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


def settings_of(lanes: int) -> Settings:
    names = [f"lane-{number}" for number in range(lanes)]
    queues = "".join(f"- {{name: q-{name}, provider: {name}}}\n" for name in names)
    providers = "".join(f"  {name}: {{type: webhook, url: 'https://h.example/'}}\n" for name in names)
    return console_settings(f"queues:\n{queues}providers:\n{providers}admin: {{listen: '127.0.0.1:PORT'}}\n")


@asynccontextmanager
async def serving(client: Callable[[], Awaitable[Redis]], lanes: int) -> AsyncIterator[str]:
    environment.cache_clear()
    async with console_server(settings_of(lanes), client, FOREVER) as url:
        yield f"{url}/"


async def test_the_first_page_after_the_start_waits_for_no_reading_and_no_template(redis: Redis) -> None:
    now = int((await redis.time())[0]) // 60 * 60
    for lane in range(LANES):
        keys = LaneKeys.of("relay", f"lane-{lane}")
        await redis.hset(keys.part("control"), mapping={"accepted": 9, "delivered": 9})
        await redis.hset(keys.statistics("minute", now - 60), mapping={"o:delivered": 9})
    async with serving(ready(redis), LANES) as url, ClientSession() as session:
        templates = environment()
        assert templates.cache is not None
        assert len(templates.cache) == len(templates.list_templates())
        await redis.config_resetstat()
        async with session.get(url) as answer:
            page = await answer.text()
        commands: dict[str, Any] = await redis.info("commandstats")
    # Redis 6.2 counts no subcommands of their own.
    assert set(commands) <= {"cmdstat_config|resetstat", "cmdstat_config", "cmdstat_info"}
    # Each lane has its last hour with the first page, too.
    assert page.count("<title>9 sent, 0 failed in the last hour</title>") == LANES
    # A browser needs time for each byte and each element before it paints anything.
    row = page[page.index('<tr id="lane-') : page.index("</tr>", page.index('<tr id="lane-'))]
    assert (len(row) < 1500, row.count("<") - row.count("</") <= 20) == (True, True), row


async def test_a_page_with_a_thousand_rows_shows_the_first_ones_and_finds_the_others(redis: Redis) -> None:
    async with serving(ready(redis), 120) as url, ClientSession() as session:

        async def page(path: str) -> str:
            async with session.get(url + path) as answer:
                assert answer.status == 200
                return await answer.text()

        for path, word in (("", "lanes"), ("queues", "queues"), ("configuration", "providers")):
            first = await page(path)
            assert first.count('<th scope="row"') in (25, 50), path
            assert f"25 of 120 {word}" in first
            found = await page(f"{path}?filter=lane-119")
            assert ("lane-119" in found, "lane-118" in found, f"25 of 120 {word}" in found) == (
                True,
                False,
                False,
            )
            assert (await page(f"{path}?all")).count('<th scope="row"') in (120, 240), path
        for path in ("?filter=nothing", "queues?filter=nothing"):
            assert "Show all 120" in await page(path)
        for path in ("lanes/nobody", "queue/nobody", "api/v1/lanes/nobody", "api/v1/queues/nobody"):
            async with session.get(url + path) as answer:
                assert (answer.status, "and 110 more" in await answer.text()) == (404, True), path


async def test_a_search_begins_with_the_lanes_in_which_something_ended_last(redis: Redis) -> None:
    for lane in range(LANES):
        entry = JournalEntry(float(lane + 1), f"message-{lane}")
        await redis.xadd(
            journal_stream("relay", f"lane-{lane}"), {"entry": encode(entry)}, id=f"{lane + 1}-0"
        )
    async with serving(ready(redis), LANES) as url, ClientSession() as session:

        async def found(query: str) -> tuple[bool, bool, bool]:
            async with session.get(f"{url}messages?{query}") as answer:
                page = await answer.text()
            return ">message-0<" in page, ">message-59<" in page, "Only 50 of 60 lanes" in page

        assert await found("") == (False, True, True)
        assert await found("q=message-59") == (False, True, True)
        assert await found("q=message-0&provider=lane-0") == (True, False, False)


async def test_a_browser_that_asks_for_an_unknown_page_gets_a_page(redis: Redis) -> None:
    async with serving(ready(redis), 1) as url, ClientSession() as session:
        async with session.get(f"{url}nothing", headers={"Accept": "text/html,*/*"}) as answer:
            page = await answer.text()
            assert (answer.status, "There is no such page" in page, "/queues" in page) == (404, True, True)
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        async with session.get(f"{url}nothing") as answer:
            assert (answer.status, answer.content_type) == (404, "text/plain")


async def test_a_console_without_redis_is_announced_and_shows_it() -> None:
    async def no_redis() -> Redis:
        raise StoreError("no Redis here")

    async with serving(no_redis, 1) as url, ClientSession() as session, session.get(url) as answer:
        assert (answer.status, "no Redis here" in await answer.text()) == (503, True)


async def test_a_slow_reading_delays_no_other_page() -> None:
    cache = Cache()
    slow = Gate()
    waiting = asyncio.create_task(cache.get("slow", 1.0, slow.read))
    await slow.reached.wait()
    assert await cache.get("fast", 1.0, ready("now")) == "now"
    assert not waiting.done()
    slow.opened.set()
    assert await waiting == 1


async def test_ten_consoles_read_once() -> None:
    cache, gate = Cache(), Gate()
    waiting = [asyncio.create_task(cache.get("lane", 60.0, gate.read)) for _ in range(10)]
    await gate.reached.wait()
    gate.opened.set()
    assert await asyncio.gather(*waiting) == [1] * 10


async def test_an_answer_from_before_an_action_is_not_shown_after_it() -> None:
    cache, gate = Cache(), Gate()
    before = asyncio.create_task(cache.get("lane", 60.0, gate.read))
    await gate.reached.wait()
    cache.clear()  # an operator acts while Redis is read
    gate.opened.set()
    assert await before == 1
    assert await cache.get("lane", 60.0, ready("after")) == "after"
    cache.clear()
    assert await cache.get("lane", 60.0, ready("later")) == "later"


async def test_a_sample_from_before_an_action_is_not_shown_after_it(redis: Redis) -> None:
    gate, settings = Gate(), settings_of(1)

    async def client() -> Redis:
        await gate.read()
        return redis

    sampler = Sampler(settings, client, lambda: Published.of(settings), FOREVER)
    reading = asyncio.create_task(sampler.latest())
    await gate.reached.wait()
    sampler.invalidate()
    gate.opened.set()
    first = await reading
    second = await sampler.latest()
    assert (second.number, (await sampler.latest()).number) == (first.number + 1, second.number)


class Gate:
    """A reading that takes as long as the test wants. It returns how often it was made."""

    def __init__(self) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        self.count = 0

    async def read(self) -> int:
        self.count += 1
        self.reached.set()
        await self.opened.wait()
        return self.count


def ready(value: ValueT) -> Callable[[], Awaitable[ValueT]]:
    async def read() -> ValueT:
        return value

    return read
