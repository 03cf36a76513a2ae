"""The cost of a message, counted and not timed: round trips to Redis, bytes to and from it, tasks.

The counts guard against regressions and are the same in every run on every machine, because the test
controls everything that they depend on. Worker, application and provider share one event loop with virtual
time: the provider answers after some 10 ms of that time, and Redis, which is real, after none. Scripts reach
Redis one by one, in the order in which the worker starts them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from bench.receiver import Receiver as AnswersAtOnce
from relay.engine.worker import Worker
from relay.http.transport import OnDone, Transport
from relay.provider import HttpProvider, Provider, Request, Response, discover
from relay.redis_client.connect import connect
from relay.redis_client.connection import Channel
from relay.settings.load import load
from relay.settings.options import ProviderOptions
from relay.store.scripting import script
from testing.redis_server import RedisServer
from testing.relay_process import write_config
from testing.site import PUSHER, WEBHOOK_SECRET, Site
from testing.virtual_time import VirtualTimeLoop

BACKLOG = 3_000
AT_REST = 200

SCRIPTS = (
    "fetch",
    "fetch_large",
    "reserve",
    "enqueue_written",
    "claim_large",
    "enqueue",
    "enqueue_plain",
    "enqueue_into_flight",
    "take_into_flight",
    "take_headerless",
    "take_one",
    "claim",
    "settle",
    "settle_plain",
    "outbox",
    "record",
    "heartbeat",
    "lock",
)
BY_THE_SECOND = frozenset(
    {"heartbeat", "lock", "outbox", "PUBLISH", "PING", "ZRANGE", "HMGET", "TIME", "INFO", "XLEN", "XTRIM"}
)
"""Trips that a worker makes regardless of the number of messages. (Pipelines are not counted.)"""

ANSWER_AFTER = 0.0107
"""Seconds until the provider answers a request."""

Adapters = Mapping[str, type[Provider[ProviderOptions]]]


class PendingAnswer:
    """A request that the provider has not answered yet."""

    def __init__(self, at: float, on_done: OnDone) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, on_done, self, Response(200, body=b"{}"))

    def cancel(self) -> None:
        self._timer.cancel()


class AnswersInWaves(Transport):
    """A transport without sockets: every request is answered `ANSWER_AFTER` it was made."""

    def start(self, request: Request, on_done: OnDone) -> PendingAnswer:
        return PendingAnswer(asyncio.get_running_loop().time() + ANSWER_AFTER, on_done)

    async def close(self) -> None:
        pass


class AnswersOneByOne(AnswersInWaves):
    """The same, but an answer follows the one before it after half a millisecond."""

    _last = 0.0

    def start(self, request: Request, on_done: OnDone) -> PendingAnswer:
        self._last = max(asyncio.get_running_loop().time() + ANSWER_AFTER, self._last + 0.0005)
        return PendingAnswer(self._last, on_done)


def answering(transport: type[AnswersInWaves]) -> Adapters:
    """The HTTP adapters, with a transport of the test's."""

    def over(adapter: Any) -> Any:
        async def start(self: HttpProvider[ProviderOptions], _: Transport) -> None:
            await adapter.start(self, transport())

        return type(adapter.__name__, (adapter,), {"start": start})

    return {name: over(adapter) for name, adapter in discover().items() if issubclass(adapter, HttpProvider)}


@dataclass
class Counts:
    """The counts so far."""

    trips: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    under_way: Counter[str] = field(default_factory=Counter)
    pushed: bool = False
    """Whether the worker's wait for an element will end, because there is one."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def clear(self) -> None:
        self.trips.clear()
        self.tasks.clear()
        self.settled = 0

    @property
    def is_waiting(self) -> bool:
        """Whether Redis will answer."""
        return self.pushed or self.under_way.total() > self.under_way["BLMOVE"]

    @property
    def is_idle(self) -> bool:
        """Whether the worker waits for an element, and for nothing else."""
        return self.under_way["BLMOVE"] == 1 and not self.is_waiting

    @contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """A command is in progress."""
        self.under_way[name] += 1
        self.changed.set()
        try:
            yield
        finally:
            self.under_way[name] -= 1
            self.changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.changed.clear()
            await self.changed.wait()


@dataclass(frozen=True)
class Cost:
    """The cost of 1,000 messages, or its limit: round trips to Redis by script or command, asyncio tasks, and
    KiB to and from Redis, the application's own RPUSH included."""

    trips: Mapping[str, float]
    tasks: float
    into_redis: float
    out_of_redis: float

    def beyond(self, most: Cost) -> list[str]:
        """One line for each count above its limit."""
        pairs = [(name, number, most.trips.get(name, 0)) for name, number in self.trips.items()]
        pairs += [
            ("tasks", self.tasks, most.tasks),
            ("KiB to Redis", self.into_redis, most.into_redis),
            ("KiB from Redis", self.out_of_redis, most.out_of_redis),
        ]
        return [f"{name}: {number:.1f}, not {bound:g}" for name, number, bound in pairs if number > bound]


def count_trips(client: Redis, counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the commands of a client and its channels, and send them one by one."""
    names = {key: name for name in SCRIPTS for key in (script(name).digest, script(name).text)}

    def name_of(words: tuple[Any, ...]) -> str:
        return names.get(words[1], "another script") if words[0] in ("EVALSHA", "EVAL") else words[0]

    async def together(channel: Channel, *commands: tuple[Any, ...]) -> Any:
        name = next((name_of(words) for words in commands if words[0] == "EVAL"), "transaction")
        counts.trips[name] += 1
        with counts.asking(name):
            async with counts.turn:
                return await transaction(channel, *commands)

    async def counted(execute: Callable[..., Any], words: tuple[Any, ...], **options: Any) -> Any:
        name = name_of(words)
        counts.trips[name] += 1
        with counts.asking(name):
            if name == "BLMOVE":
                # Its own timeout would run in Redis, by the real clock.
                reply = await execute(*words[:-1], 0, **options)
                counts.pushed = False
            else:
                async with counts.turn:
                    reply = await execute(*words, **options)
        if name in ("settle", "settle_plain") and reply is not None:
            counts.settled += reply[0]
        return reply

    async def script_and_wait(channel: Channel, *commands: tuple[Any, ...]) -> Any:
        """Count a script and the wait that goes out with it as one round trip."""
        if commands[0][0] == "MULTI":
            return await send(channel, *commands)
        first, wait = commands
        name = name_of(first)
        counts.trips[name] += 1
        with counts.asking(name):
            async with counts.turn:
                answer, coming = await send(channel, first, (*wait[:-1], 0))
                counts.under_way["BLMOVE"] += 1
                coming.add_done_callback(wait_ended)
                await asyncio.wait({answer})
        return answer, coming

    def wait_ended(_: asyncio.Future[Any]) -> None:
        counts.pushed = False
        counts.under_way["BLMOVE"] -= 1
        counts.changed.set()

    by_channel, by_client = Channel.execute, client.execute_command
    send, transaction = Channel.send, Channel.transaction
    monkeypatch.setattr(Channel, "send", script_and_wait)
    monkeypatch.setattr(Channel, "transaction", together)
    monkeypatch.setattr(Channel, "execute", lambda self, *words: counted(partial(by_channel, self), words))
    monkeypatch.setattr(
        client, "execute_command", lambda *words, **options: counted(by_client, words, **options)
    )


def count_tasks(counts: Counts) -> None:
    """Count the tasks of the running loop."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        counts.tasks[coroutine.__qualname__] += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(factory)


@asynccontextmanager
async def running(
    folder: Path, url: str, provider: dict[str, Any], adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Counts]:
    """An idle worker in this process."""
    queues = [{"name": "notifications", "provider": "p", "format": "bare"}]
    path = write_config(folder, url, {"p": provider}, queues)
    settings = load(path, {name: adapter.Options for name, adapter in discover().items()}, {})
    counts = Counts()
    async with connect(url) as client:
        assert isinstance(client, Redis)
        await client.flushall()
        count_trips(client, counts, monkeypatch)
        stop = asyncio.Event()
        worker = asyncio.create_task(Worker(settings, adapters, client).run(stop))
        try:
            await counts.until(lambda: counts.is_idle)
            yield counts
        finally:
            stop.set()
            await worker


def elements(number: int, size: int = 200) -> list[str]:
    """Payloads that are about 50 bytes longer than `size`."""
    return [
        json.dumps({"channel": "site-1", "hits": index, "path": "/" + "x" * size}) for index in range(number)
    ]


async def traffic(redis: Redis, counts: Counts) -> tuple[int, int]:
    """Bytes that came to Redis and went from it."""
    with counts.asking("INFO"):
        stats = await redis.info("stats")
    return stats["total_net_input_bytes"], stats["total_net_output_bytes"]


async def push(redis: Redis, counts: Counts, batch: list[str]) -> None:
    """Push, and return when the messages are settled and the worker is idle again."""
    goal = counts.settled + len(batch)
    counts.pushed = True
    with counts.asking("RPUSH"):
        await redis.rpush("notifications", *batch)
    await counts.until(lambda: counts.settled == goal and counts.is_idle)


async def cost(redis: Redis, counts: Counts, pushes: list[list[str]]) -> Cost:
    """The cost of a thousand messages, if each push waits for the end of the one before."""
    # Scripts are loaded first.
    await push(redis, counts, elements(200))
    count_tasks(counts)
    counts.clear()
    before = await traffic(redis, counts)
    for batch in pushes:
        await push(redis, counts, batch)
    after = await traffic(redis, counts)
    thousands = sum(len(batch) for batch in pushes) / 1000
    trips = {name: number / thousands for name, number in counts.trips.items() if name not in BY_THE_SECOND}
    return Cost(
        trips,
        counts.tasks.total() / thousands,
        (after[0] - before[0]) / 1024 / thousands,
        (after[1] - before[1]) / 1024 / thousands,
    )


@pytest.fixture
def measured(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Cost]:
    """The cost of pushes to a provider, in virtual time."""

    async def measure(
        loop: VirtualTimeLoop, provider: dict[str, Any], adapters: Adapters, pushes: list[list[str]]
    ) -> Cost:
        url = redis_server.url
        # The clock stands still until the worker is idle, so that its intervals begin at the same moment.
        loop.control(lambda: True)
        async with (
            Redis.from_url(url) as redis,
            running(tmp_path, url, provider, adapters, monkeypatch) as counts,
        ):
            loop.control(lambda: counts.is_waiting)
            try:
                return await cost(redis, counts, pushes)
            finally:
                loop.follow()  # the end of a worker has timeouts of its own

    def run(
        provider: dict[str, Any], pushes: list[list[str]], transport: type[AnswersInWaves] = AnswersInWaves
    ) -> Cost:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualTimeLoop)
            monkeypatch.setattr(time, "monotonic", loop.time)
            return runner.run(measure(loop, provider, answering(transport), pushes))

    return run


WEBHOOK = {"type": "webhook", "url": "http://127.0.0.1:9/", "secret": WEBHOOK_SECRET}
EVENTS = {**PUSHER, "url": "http://127.0.0.1:9/", "event": "hit"}

# The limits are the counts of Python 3.11 plus a tenth. Lower them when a count falls. 200 elements
# are one batch of an intake. 64 webhooks are in flight at once, and each such wave is one claim and one
# settle; of the 640 slots of Pusher, a claim fills 100. The flush of a second may fall into either.
BACKLOGS = {
    "webhook": Cost(
        {
            "fetch": 6,
            "enqueue_plain": 6,
            "take_into_flight": 1,
            "claim": 17.5,
            "settle_plain": 9,
            "BLMOVE": 0.5,
            "record": 0.4,
        },
        10,
        700,
        655,
    ),
    "pusher": Cost(
        {
            "fetch": 6,
            "enqueue_plain": 6,
            "take_into_flight": 1,
            "enqueue_into_flight": 1.5,
            "claim": 10.5,
            "settle_plain": 6,
            "BLMOVE": 0.5,
            "record": 0.4,
        },
        10,
        690,
        655,
    ),
}

# Large messages: a fetch has 1 MiB. Redis gets each payload twice, by the push and by the worker. It sends it
# once if the worker claims messages that it still has from its own enqueue, otherwise twice. Here the intake
# runs ahead, because only the provider takes time.
LARGE = Cost(
    {
        "fetch": 1.5,
        "fetch_large": 22,
        "transaction": 1.5,
        "reserve": 23,
        "enqueue_written": 22,
        "claim": 1.5,
        "claim_large": 20,
        "settle_plain": 9,
        "BLMOVE": 1.5,
        "record": 1.5,
    },
    10,
    43_500,
    37_600,
)

# One by one: a script that moves the element into flight, together with the wait for the next one, and a
# settle. (The push itself makes one of the tasks.) The flush of each second writes the statistics. Each push
# waits for the settle of the one before, so there is no settle for several of them.
ONE_BY_ONE = Cost(
    {"BLMOVE": 5.5, "take_into_flight": 1050, "settle_plain": 1050, "record": 36},
    1_090,
    1_960,
    370,
)


@pytest.mark.parametrize(("name", "provider"), [("webhook", WEBHOOK), ("pusher", EVENTS)])
def test_a_message_of_a_backlog_costs_no_more_than_it_did(
    measured: Callable[..., Cost], name: str, provider: dict[str, Any]
) -> None:
    found = measured(provider, [elements(BACKLOG)])
    assert not found.beyond(BACKLOGS[name]), found


def test_a_large_message_of_a_backlog_costs_no_more_than_it_did(measured: Callable[..., Cost]) -> None:
    found = measured(WEBHOOK, [elements(1_000, 20_000)])
    assert not found.beyond(LARGE), found


@pytest.mark.parametrize("provider", [WEBHOOK, EVENTS], ids=["webhook", "pusher"])
def test_a_message_that_comes_alone_costs_no_more_than_it_did(
    measured: Callable[..., Cost], provider: dict[str, Any]
) -> None:
    found = measured(provider, [[element] for element in elements(AT_REST)])
    assert not found.beyond(ONE_BY_ONE), found


def test_outcomes_that_come_one_by_one_do_not_cost_a_script_each(measured: Callable[..., Cost]) -> None:
    found = measured(WEBHOOK, [elements(BACKLOG // 2)], AnswersOneByOne)
    assert found.trips["settle_plain"] < 60, found
    assert found.trips["claim"] < 35, found


async def test_requests_over_the_real_transport_need_no_task_each(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.get_running_loop().create_server(AnswersAtOnce, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = {**WEBHOOK, "url": f"http://127.0.0.1:{port}/"}
    async with server, running(site.folder, site.server.url, provider, discover(), monkeypatch) as counts:
        found = await cost(site.redis, counts, [elements(1_000)])
    assert found.tasks < 200, counts.tasks
