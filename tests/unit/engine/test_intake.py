"""From a queue into the lanes: in order where order counts, at once where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from relay.engine.intake import LONGEST_WAITED_FOR, Intake, finish_batch
from relay.engine.router import Router
from relay.redis_client.replication import Replicas
from relay.settings.models import QueueSettings, Settings
from relay.store.lane import Claimed, Malformed
from relay.store.queue import BATCH, NOTHING, Batch, Done, Queue, push_all
from testing.builders import a_lane, options, texts
from testing.redis_server import RedisServer


@pytest.fixture
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


def a_router() -> Router:
    queue = QueueSettings(name="q", provider="test")
    return Router(queue, Settings(queues=[queue], providers={"test": options()}))


def element(text: str, **fields: str) -> bytes:
    more = "".join(f'"{name}":"{value}",' for name, value in fields.items())
    return b'{%s"payload":{"text":"%s"}}' % (more.encode(), text.encode())


@asynccontextmanager
async def taking(
    redis: Redis, worker: str = "w2", on_arrival: Callable[[str], None] = lambda provider: None
) -> AsyncIterator[Intake]:
    """A running intake."""
    intake = Intake(
        Queue(redis, "relay", "q", worker),
        a_router(),
        {"test": a_lane(redis, worker=worker)},
        worker=worker,
        replicas=Replicas(redis),
        on_arrival=on_arrival,
        on_ready=lambda provider, ready: None,
        on_letters=lambda provider: None,
    )
    task = asyncio.create_task(intake.run())
    try:
        yield intake
    finally:
        task.cancel()
        await asyncio.wait([task])


async def eventually(read: Callable[[], Awaitable[object]], value: object) -> None:
    async with asyncio.timeout(120):
        while await read() != value:
            await asyncio.sleep(0.005)


async def waits(redis: Redis) -> int:
    """How many wait for an element."""
    return int((await redis.info("clients"))["blocked_clients"])


async def counted(intake: Intake) -> int:
    return intake.taken


async def claimed(claims: list[asyncio.Task[Claimed]]) -> int:
    return sum([len((await claim).claims) for claim in claims])


@pytest.mark.parametrize("key", ["ordering_key", "collapse_key"])
async def test_what_was_pushed_later_waits_for_what_another_took_earlier(redis: Redis, key: str) -> None:
    lane = a_lane(redis, worker="w3")
    slow = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [element("0", **{key: "k"})])
    await slow.take()
    async with taking(redis) as intake:
        await push_all(redis, "q", [element("1", **{key: "k"})])
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 1))
        for _ in range(20):  # it looks again and again
            await intake.queue.depth()
            assert await lane.size() == 0
        assert await finish_batch(slow, a_router(), {"test": lane}, "w1", Replicas(redis))
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 0))
    newest = {"ordering_key": ["0"], "collapse_key": ["1"]}
    assert texts((await lane.claim(10)).claims) == newest[key], (
        "the older one first, or the newer in its place"
    )


async def test_what_has_no_order_overtakes_a_slow_worker(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    await push_all(redis, "q", [element("0", ordering_key="k")])
    await Queue(redis, "relay", "q", "w1").take()
    async with taking(redis):
        await push_all(redis, "q", [element("1")])
        await eventually(lane.size, 1)
    assert texts((await lane.claim(10)).claims) == ["1"]


async def test_what_it_had_taken_when_it_stopped_is_put_into_the_lanes_once(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with taking(redis) as intake:
        await push_all(redis, "q", [element("0"), element("1")])
        await eventually(lane.size, 2)
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 0))
    await push_all(redis, "q", [element("2")])
    await intake.queue.take()
    await intake.finish()
    await intake.finish()
    assert sorted(texts((await lane.claim(10)).claims)) == ["0", "1", "2"]
    assert await intake.queue.holders() == []


async def test_what_comes_alone_goes_straight_into_its_lane(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with taking(redis) as intake:
        await eventually(lambda: waits(redis), 1)
        for number in range(3):
            await push_all(redis, "q", [element(str(number))])
            await eventually(lane.size, number + 1)
        assert not await redis.exists(intake.queue.keys.last_sequence), "no batch was taken"
        await eventually(lambda: counted(intake), 3)
    assert texts((await lane.claim(10)).claims) == ["0", "1", "2"]


@pytest.mark.parametrize("number", [1, 10])
async def test_a_claim_that_is_asked_for_on_arrival_finds_what_came(redis: Redis, number: int) -> None:
    """Be it that Redis has forgotten the script, so that it runs behind a claim that was asked for later."""
    lane, claims = a_lane(redis, worker="w3"), list[asyncio.Task[Claimed]]()

    def claim(provider: str) -> None:
        claims.append(asyncio.ensure_future(lane.claim(100)))

    await lane.claim(1)
    async with taking(redis, on_arrival=claim):
        for forgotten in (False, True, False):
            await eventually(lambda: waits(redis), 1)
            claims.clear()
            if forgotten:
                await redis.script_flush()
                await lane.claim(1)
            await push_all(redis, "q", [element(str(index)) for index in range(number)])
            await eventually(lambda: claimed(claims), number)
            assert number > 1 or len(claims) == (2 if forgotten else 1)


@pytest.mark.parametrize(
    ("alone", "becomes"),
    [
        (element("x" * LONGEST_WAITED_FOR), 1),
        (b'{"payload":1}', 0),
        (b'{"payload":{},"provider":"nobody"}', 0),
    ],
    ids=["large", "malformed", "for nobody"],
)
async def test_what_comes_alone_and_is_no_plain_matter_goes_by_a_batch(
    redis: Redis, alone: bytes, becomes: int
) -> None:
    lane = a_lane(redis, worker="w3")
    async with taking(redis) as intake:
        await eventually(lambda: waits(redis), 1)
        await push_all(redis, "q", [alone])
        await eventually(lambda: redis.exists(intake.queue.keys.last_sequence), 1)
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 0))
        assert await lane.size() == becomes


async def test_several_at_once_are_a_batch(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with taking(redis) as intake:
        await eventually(lambda: waits(redis), 1)
        await push_all(redis, "q", [element(str(number)) for number in range(10)])
        await eventually(lane.size, 10)
        assert await redis.exists(intake.queue.keys.last_sequence)
    assert texts((await lane.claim(10)).claims) == [str(number) for number in range(10)]


async def test_batches_are_larger_where_they_go_into_many_lanes(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"p{number}" for number in range(30)]
    queue = QueueSettings(name="q")
    settings = Settings(queues=[queue], providers={name: options() for name in names})
    intake = Intake(
        Queue(redis, "relay", "q", "w2"),
        Router(queue, settings),
        {name: a_lane(redis, name=name, worker="w2") for name in names},
        worker="w2",
        replicas=Replicas(redis),
        on_arrival=lambda provider: None,
        on_ready=lambda provider, ready: None,
        on_letters=lambda provider: None,
    )
    sizes = []
    take = intake.queue.take

    async def noted(done: Done = NOTHING, *, most: int = BATCH) -> Batch:
        batch = await take(done, most=most)
        sizes.append(len(batch.elements))
        return batch

    monkeypatch.setattr(intake.queue, "take", noted)
    await push_all(redis, "q", [element("x", provider=names[number % 30]) for number in range(600)])
    await push_all(redis, "q", [element("x", provider="p0") for _ in range(700)])
    task = asyncio.create_task(intake.run())
    await eventually(lambda: counted(intake), 1300)
    await eventually(lambda: waits(redis), 1)
    task.cancel()
    await asyncio.wait([task])
    assert sizes == [200, 300, 300, 300, 200, 0]


async def test_where_lanes_have_plenty_it_gives_way_and_holds_nothing_meanwhile(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.engine.intake.PLENTY", 300)
    monkeypatch.setattr("relay.engine.intake.GIVE_WAY", 1e6)
    lane = a_lane(redis, worker="w3")
    await push_all(redis, "q", [element(str(number)) for number in range(1000)])
    async with taking(redis) as intake:
        await eventually(lambda: intake.queue.depth(["w2"]), (600, 0))
        assert await intake.queue.holders() == []
        assert await lane.size() == 400


async def test_what_cannot_go_yet_is_not_plenty(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.engine.intake.PLENTY", 300)
    monkeypatch.setattr("relay.engine.intake.GIVE_WAY", 1e6)
    lane = a_lane(redis, worker="w3")
    await push_all(redis, "q", [element(str(number), delay="1h") for number in range(1000)])
    async with taking(redis):
        await eventually(lane.size, 1000)


async def test_a_batch_that_is_not_full_gives_way_to_nobody(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.engine.intake.PLENTY", 0)
    monkeypatch.setattr("relay.engine.intake.GIVE_WAY", 1e6)
    lane = a_lane(redis, worker="w3")
    async with taking(redis):
        for number in range(3):
            await push_all(redis, "q", [element(str(number))])
            await eventually(lane.size, number + 1)


async def test_what_a_waiting_worker_had_moved_aside_is_taken_by_one_that_waits_in_vain(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.engine.intake.WAIT", 0.02)
    lane = a_lane(redis, worker="w3")
    async with taking(redis) as intake:
        await redis.rpush(intake.queue.keys.staged, element("0"))
        await eventually(lane.size, 1)


@pytest.mark.parametrize("field", ["provider", "priority"])
def test_a_reason_is_short_whatever_a_message_holds(field: str) -> None:
    huge = b'{"%s": "%s", "payload": {}}' % (field.encode(), b"\\u001b[2J" * 50_000)
    _, item = a_router().route(huge)
    assert isinstance(item, Malformed)
    assert len(item.reason) <= 500
    assert item.reason.isprintable()
    assert item.reason.startswith(field)
