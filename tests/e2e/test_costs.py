"""What a message costs, counted and not timed: round trips to Redis, bytes to and from it, tasks.

A guard against regressions that says the same on any machine. Worker, client and receiver share one event
loop, so that what is sent in one round of it is answered in the next, however slow the machine is: requests
leave and end in waves of as many as there are slots, and with them claims and settles. What is left to time
is when Redis answers, and the moment for which outcomes are gathered.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from bench.receiver import Receiver as AnswersAtOnce
from relay.provider import discover
from relay.settings.load import load
from relay.store.channel import Channel
from relay.store.connect import connect
from relay.store.scripting import script
from relay.worker import Worker
from tests.e2e.conftest import PUSHER, WEBHOOK_SECRET
from tests.support.redis_server import RedisServer
from tests.support.relay_process import write_config

BACKLOG = 3_000
AT_REST = 200

SCRIPTS = ("take", "enqueue", "claim", "settle", "outbox", "beat", "lock")
BY_THE_SECOND = frozenset({"beat", "lock", "outbox", "PUBLISH", "PING", "ZRANGE", "HMGET", "TIME", "INFO"})
"""What a worker asks however many messages there are. (What goes through pipelines is not counted here.)"""


@pytest.fixture(scope="module")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@dataclass
class Counts:
    """What has been counted so far."""

    trips: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    under_way: Counter[str] = field(default_factory=Counter)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def clear(self) -> None:
        self.trips.clear()
        self.tasks.clear()
        self.settled = 0

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():
                self.changed.clear()
                await self.changed.wait()


@dataclass(frozen=True)
class Cost:
    """What 1,000 messages cost, or may cost: round trips to Redis by script or command, asyncio tasks, and
    KiB to and from Redis, the application's own RPUSH included."""

    trips: Mapping[str, float]
    tasks: float
    into_redis: float
    out_of_redis: float

    def beyond(self, most: Cost) -> list[str]:
        """What is more than it may be, in words."""
        pairs = [(name, number, most.trips.get(name, 0)) for name, number in self.trips.items()]
        pairs += [
            ("tasks", self.tasks, most.tasks),
            ("KiB to Redis", self.into_redis, most.into_redis),
            ("KiB from Redis", self.out_of_redis, most.out_of_redis),
        ]
        return [f"{name}: {number:.1f}, not {bound:g}" for name, number, bound in pairs if number > bound]


def count_trips(client: Redis, counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client and its channels note what they ask."""
    names = {key: name for name in SCRIPTS for key in (script(name).digest, script(name).text)}

    async def counted(ask: Callable[..., Any], words: tuple[Any, ...], **options: Any) -> Any:
        name = names.get(words[1], "another script") if words[0] in ("EVALSHA", "EVAL") else words[0]
        counts.trips[name] += 1
        counts.under_way[name] += 1
        counts.changed.set()
        try:
            reply = await ask(*words, **options)
        finally:
            counts.under_way[name] -= 1
            counts.changed.set()
        if name == "settle":
            counts.settled += reply[0]
        return reply

    by_channel, by_client = Channel.ask, client.execute_command
    monkeypatch.setattr(Channel, "ask", lambda self, *words: counted(partial(by_channel, self), words))
    monkeypatch.setattr(
        client, "execute_command", lambda *words, **options: counted(by_client, words, **options)
    )


def count_tasks(counts: Counts) -> None:
    """Have the running loop note its tasks."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
        counts.tasks[coroutine.__qualname__] += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(factory)


class AnswersOneByOne(AnswersAtOnce):
    """The same, but only one request in each round of the event loop gets its answer."""

    _waiting: deque[tuple[AnswersOneByOne, bytes]] = deque()

    def data_received(self, data: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer_one)
        self._waiting.append((self, data))

    def _answer_one(self) -> None:
        connection, data = self._waiting.popleft()
        AnswersAtOnce.data_received(connection, data)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer_one)


@asynccontextmanager
async def running(
    folder: Path,
    url: str,
    provider: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    receiver: type[AnswersAtOnce] = AnswersAtOnce,
) -> AsyncIterator[Counts]:
    """A worker in this process that has nothing to do, and the receiver that it sends to."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(receiver, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    queues = [{"name": "notifications", "provider": "p", "format": "bare"}]
    path = write_config(folder, url, {"p": {**provider, "url": f"http://127.0.0.1:{port}/"}}, queues)
    settings = load(path, {name: adapter.Options for name, adapter in discover().items()}, {})
    counts = Counts()
    async with server, connect(url) as client:
        count_trips(client, counts, monkeypatch)
        stop = asyncio.Event()
        worker = asyncio.create_task(Worker(settings, discover(), client).run(stop))
        try:
            await counts.until(lambda: counts.under_way["BLMOVE"] == 1)
            yield counts
        finally:
            stop.set()
            await worker


def elements(number: int) -> list[str]:
    """Payloads of about 250 bytes."""
    return [
        json.dumps({"channel": "site-1", "hits": index, "path": "/" + "x" * 200}) for index in range(number)
    ]


async def traffic(redis: Redis) -> tuple[int, int]:
    """Bytes that came to Redis and went from it."""
    stats = await redis.info("stats")
    return stats["total_net_input_bytes"], stats["total_net_output_bytes"]


async def cost(redis: Redis, counts: Counts, pushes: list[list[str]]) -> Cost:
    """Push, each time once all is done that was pushed before."""

    async def push(batch: list[str]) -> None:
        goal = counts.settled + len(batch)
        await redis.rpush("notifications", *batch)
        await counts.until(lambda: counts.settled == goal and counts.under_way["BLMOVE"] == 1)

    # Scripts are loaded, and the connections that a wave needs are there.
    await push(elements(200))
    count_tasks(counts)
    counts.clear()
    before = await traffic(redis)
    for batch in pushes:
        await push(batch)
    after = await traffic(redis)
    thousands = sum(len(batch) for batch in pushes) / 1000
    trips = {name: number / thousands for name, number in counts.trips.items() if name not in BY_THE_SECOND}
    return Cost(
        trips,
        counts.tasks.total() / thousands,
        (after[0] - before[0]) / 1024 / thousands,
        (after[1] - before[1]) / 1024 / thousands,
    )


WEBHOOK = {"type": "webhook", "secret": WEBHOOK_SECRET}
EVENTS = {**PUSHER, "event": "hit"}

# The bounds are what was counted on Python 3.11, and a tenth; a bound may go down with what is saved. 200
# elements are one batch of an intake. 64 webhooks are under way at once, and about so many are one claim, and
# twice as many one settle; of the 640 slots of Pusher, 100 are.
BACKLOGS = {
    "webhook": Cost({"take": 6.5, "enqueue": 6, "claim": 20, "settle": 10, "BLMOVE": 1}, 10, 695, 655),
    "pusher": Cost({"take": 6.5, "enqueue": 6, "claim": 12, "settle": 9, "BLMOVE": 1}, 10, 690, 655),
}

# One by one: the wait for it, an enqueue that takes it, a claim, a settle. Each sends its keys and its
# policy. (The push itself makes one of the tasks.)
ONE_BY_ONE = Cost({"BLMOVE": 1050, "enqueue": 1050, "claim": 1050, "settle": 1050}, 1_050, 3_500, 785)


@pytest.mark.parametrize(("name", "provider"), [("webhook", WEBHOOK), ("pusher", EVENTS)])
async def test_a_message_of_a_backlog_costs_no_more_than_it_did(
    tmp_path: Path,
    redis: Redis,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    provider: dict[str, Any],
) -> None:
    async with running(tmp_path, redis_server.url, provider, monkeypatch) as counts:
        found = await cost(redis, counts, [elements(BACKLOG)])
    assert not found.beyond(BACKLOGS[name]), (found, counts.tasks)


@pytest.mark.parametrize("provider", [WEBHOOK, EVENTS], ids=["webhook", "pusher"])
async def test_a_message_that_comes_alone_costs_no_more_than_it_did(
    tmp_path: Path,
    redis: Redis,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    provider: dict[str, Any],
) -> None:
    async with running(tmp_path, redis_server.url, provider, monkeypatch) as counts:
        found = await cost(redis, counts, [[element] for element in elements(AT_REST)])
    assert not found.beyond(ONE_BY_ONE), (found, counts.tasks)


async def test_outcomes_that_come_one_by_one_do_not_cost_a_script_each(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than it is, so that on a slow machine, too, many come meanwhile. Without it there were 240
    # settles, as they gather while one is under way; with it 16.
    monkeypatch.setattr("relay.dispatch.GATHER", 0.06)
    async with running(tmp_path, redis_server.url, WEBHOOK, monkeypatch, AnswersOneByOne) as counts:
        found = await cost(redis, counts, [elements(BACKLOG // 2)])
    assert found.trips["settle"] < 120, found
    assert found.trips["claim"] < 120, found
