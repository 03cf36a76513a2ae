"""From a queue into the lanes: in order if the order counts, otherwise immediately."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from relay.engine.fetch_recovery import FetchRecovery
from relay.engine.intake import Intake
from relay.engine.intake_tuning import Tuning
from relay.engine.lane_writer import Listeners
from relay.engine.router import Router
from relay.redis_client.replication import Replicas
from relay.settings.models import QueueSettings, Settings
from relay.store.claims import Claimed
from relay.store.items import Malformed
from relay.store.queue import Ack, Queue, push_all
from relay.store.waits import MAX_WAIT_BYTES
from testing.builders import a_lane, options, plain_message, texts
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


def ignore(*_: object) -> None:
    """A listener that does nothing."""


def an_intake(
    redis: Redis,
    worker: str = "w2",
    on_arrival: Callable[[str], None] = ignore,
    **tuning: Any,
) -> Intake:
    """An intake of the queue `q`; the keywords are fields of its tuning."""
    return Intake(
        Queue(redis, "relay", "q", worker),
        a_router(),
        {"test": a_lane(redis, worker=worker)},
        replicas=Replicas(redis),
        listeners=Listeners(on_arrival, ignore, ignore),
        tuning=Tuning(**tuning),
    )


@asynccontextmanager
async def running(intake: Intake) -> AsyncIterator[Intake]:
    """Runs an intake until the end of the block."""
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
    """The number of connections that wait for an element."""
    return int((await redis.info("clients"))["blocked_clients"])


async def counted(intake: Intake) -> int:
    return intake.progress.fetched


async def claimed(claims: list[asyncio.Task[Claimed]]) -> int:
    return sum([len((await claim).claims) for claim in claims])


async def test_a_cancelled_intake_ends_a_wait_that_has_begun_with_a_script(redis: Redis) -> None:
    intake = an_intake(redis, wait=600)
    waiting, lane = intake.queue.waits, a_lane(redis, worker="w2")
    await push_all(redis, "q", [b"first"])
    assert await waiting.next(600) == b"first"
    assert await lane.take(plain_message("first"), intake.queue, b"first") is not None
    await eventually(lambda: waits(redis), 1)
    async with running(intake):
        await asyncio.sleep(0)  # it fetches
    await eventually(lambda: waits(redis), 0)
    await push_all(redis, "q", [b"second"])
    assert await redis.lrange("q", 0, -1) == [b"second"]


@pytest.mark.parametrize("key", ["ordering_key", "collapse_key"])
async def test_an_ordered_element_waits_for_an_earlier_one_that_another_worker_has_fetched(
    redis: Redis, key: str
) -> None:
    lane = a_lane(redis, worker="w3")
    slow = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [element("0", **{key: "k"})])
    await slow.fetch()
    async with running(an_intake(redis)) as intake:
        await push_all(redis, "q", [element("1", **{key: "k"})])
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 1))
        for _ in range(20):  # it looks again and again
            await intake.queue.depth()
            assert await lane.size() == 0
        assert await FetchRecovery(slow, a_router(), {"test": lane}, Replicas(redis)).recover()
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 0))
    newest = {"ordering_key": ["0"], "collapse_key": ["1"]}
    assert texts((await lane.claim(10)).claims) == newest[key], (
        "the older one first, or the newer in its place"
    )


async def test_an_ordered_element_follows_an_earlier_one_that_was_deferred_meanwhile(redis: Redis) -> None:
    """The other worker defers it after this one has fetched the next element."""
    lane = a_lane(redis, worker="w3")
    slow, first = Queue(redis, "relay", "q", "w1"), element("0", ordering_key="k")
    await push_all(redis, "q", [first])
    fetch = await slow.fetch()
    async with running(an_intake(redis)) as intake:
        await push_all(redis, "q", [element("1", ordering_key="k")])
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 1))
        await slow.fetch(Ack(fetch.sequence, deferred=[("test", first)]), most=0)
        await eventually(lane.size, 2)
    assert texts((await lane.claim(10)).claims) == ["0"]


async def test_a_fetch_that_is_in_its_lane_is_not_deferred(redis: Redis) -> None:
    """Its acknowledgement was lost, and elements of others wait for the lane since then."""
    lane, other = a_lane(redis, worker="w2"), Queue(redis, "relay", "q", "w1")
    intake = an_intake(redis, deferred_interval=0.01)
    await push_all(redis, "q", [element("0")])
    fetch = await intake.queue.fetch()
    await lane.enqueue([plain_message("0")], intake.queue.batch_id, fetch.sequence)
    await push_all(redis, "q", [element("1")])
    later = await other.fetch()
    await other.fetch(Ack(later.sequence, deferred=[("test", later.elements[0])]), most=0)
    async with running(intake):
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 0))
    assert texts((await lane.claim(10)).claims) == ["0", "1"]


async def test_an_element_without_an_order_overtakes_a_slow_worker(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    await push_all(redis, "q", [element("0", ordering_key="k")])
    await Queue(redis, "relay", "q", "w1").fetch()
    async with running(an_intake(redis)):
        await push_all(redis, "q", [element("1")])
        await eventually(lane.size, 1)
    assert texts((await lane.claim(10)).claims) == ["1"]


async def test_elements_that_were_fetched_before_a_stop_are_enqueued_once(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis)) as intake:
        await push_all(redis, "q", [element("0"), element("1")])
        await eventually(lane.size, 2)
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 0))
    await push_all(redis, "q", [element("2")])
    await intake.queue.fetch()
    await intake.finish()
    await intake.finish()
    assert sorted(texts((await lane.claim(10)).claims)) == ["0", "1", "2"]
    assert await intake.queue.holders() == []


async def test_a_single_element_goes_directly_into_its_lane(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis)) as intake:
        await eventually(lambda: waits(redis), 1)
        for number in range(3):
            await push_all(redis, "q", [element(str(number))])
            await eventually(lane.size, number + 1)
        assert not await redis.exists(intake.queue.keys.last_sequence), "nothing was fetched"
        await eventually(lambda: counted(intake), 3)
    assert texts((await lane.claim(10)).claims) == ["0", "1", "2"]


@pytest.mark.parametrize("number", [1, 10])
async def test_a_claim_on_arrival_finds_the_messages(redis: Redis, number: int) -> None:
    """Also if Redis has forgotten the script, so that it runs after a claim that was sent later."""
    lane, claims = a_lane(redis, worker="w3"), list[asyncio.Task[Claimed]]()

    def claim(provider: str) -> None:
        claims.append(asyncio.ensure_future(lane.claim(100)))

    await lane.claim(1)
    async with running(an_intake(redis, on_arrival=claim)):
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
    ("single", "becomes"),
    [
        (element("x" * MAX_WAIT_BYTES), 1),
        (b'{"payload":1}', 0),
        (b'{"payload":{},"provider":"nobody"}', 0),
    ],
    ids=["large", "malformed", "for nobody"],
)
async def test_a_single_element_that_is_large_or_malformed_is_fetched(
    redis: Redis, single: bytes, becomes: int
) -> None:
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis)) as intake:
        await eventually(lambda: waits(redis), 1)
        await push_all(redis, "q", [single])
        await eventually(lambda: redis.exists(intake.queue.keys.last_sequence), 1)
        await eventually(lambda: intake.queue.depth(["w2"]), (0, 0))
        assert await lane.size() == becomes


async def test_several_elements_are_fetched_together(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis)) as intake:
        await eventually(lambda: waits(redis), 1)
        await push_all(redis, "q", [element(str(number)) for number in range(10)])
        await eventually(lane.size, 10)
        assert await redis.exists(intake.queue.keys.last_sequence)
    assert texts((await lane.claim(10)).claims) == [str(number) for number in range(10)]


async def test_an_intake_whose_lanes_are_full_yields_and_holds_nothing_meanwhile(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    await push_all(redis, "q", [element(str(number)) for number in range(1000)])
    async with running(an_intake(redis, high_watermark=300, yield_ratio=1e6)) as intake:
        await eventually(lambda: intake.queue.depth(["w2"]), (600, 0))
        assert await intake.queue.holders() == []
        assert await lane.size() == 400


async def test_delayed_messages_do_not_count_as_a_full_lane(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    await push_all(redis, "q", [element(str(number), delay="1h") for number in range(1000)])
    async with running(an_intake(redis, high_watermark=300, yield_ratio=1e6)):
        await eventually(lane.size, 1000)


async def test_an_intake_does_not_yield_after_a_fetch_that_is_not_full(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis, high_watermark=0, yield_ratio=1e6)):
        for number in range(3):
            await push_all(redis, "q", [element(str(number))])
            await eventually(lane.size, number + 1)


async def test_elements_that_another_worker_left_staged_are_fetched_after_empty_polls(redis: Redis) -> None:
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis, wait=0.02)) as intake:
        await redis.rpush(intake.queue.keys.staged, element("0"))
        await eventually(lane.size, 1)


async def test_staged_elements_are_fetched_as_soon_as_the_watchdog_has_found_them(redis: Redis) -> None:
    """Until then no fetch is needed: with a thousand idle queues they would cost more than the waits."""
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis, wait=0.02, idle_wait=0.02, empty_polls=10_000)) as intake:
        intake.progress.note_scan(found=False)
        await redis.rpush(intake.queue.keys.staged, element("0"))
        intake.progress.note_scan(found=True)
        await eventually(lane.size, 1)


async def test_a_wait_is_longer_while_the_watchdog_finds_no_elements(redis: Redis) -> None:
    """An element still ends it."""
    lane = a_lane(redis, worker="w3")
    async with running(an_intake(redis, wait=0.02, idle_wait=1000)) as intake:
        async with asyncio.timeout(120):
            while not intake.progress.longer_wait:
                intake.progress.note_scan(found=False)
                await asyncio.sleep(0.01)
        await push_all(redis, "q", [element("0")])
        await eventually(lane.size, 1)
        assert not intake.progress.longer_wait


async def test_deferred_elements_are_tried_again_although_the_watchdog_has_not_seen_them(
    redis: Redis,
) -> None:
    lane = a_lane(redis, worker="w3")
    intake = an_intake(redis, idle_wait=1000, deferred_interval=0.02, empty_polls=10_000)
    await push_all(redis, "q", [element("0")])
    fetch = await intake.queue.fetch()
    await intake.queue.fetch(Ack(fetch.sequence, deferred=[("test", fetch.elements[0])]), most=0)
    intake.progress.note_scan(found=False)
    await redis.set(lane.keys.part("control"), "not a hash")
    with capture_logs() as logs:
        async with running(intake):
            async with asyncio.timeout(120):
                while not logs:
                    await asyncio.sleep(0.01)
            await redis.delete(lane.keys.part("control"))
            await eventually(lane.size, 1)
    assert logs[0]["event"] == "a lane refuses messages; they wait"


async def test_a_step_fetches_routes_enqueues_and_the_next_one_acknowledges(redis: Redis) -> None:
    intake, lane = an_intake(redis, wait=0.02, empty_polls=1), a_lane(redis, worker="w3")
    await push_all(redis, "q", [element("0"), element("1")])
    await intake.step()
    assert (await intake.queue.depth(["w2"]), await lane.size()) == ((0, 2), 2)
    await intake.step()
    assert (await intake.queue.depth(["w2"]), await lane.size()) == ((0, 0), 2)


@pytest.mark.parametrize("field", ["provider", "priority"])
def test_a_reason_is_short_however_long_a_field_is(field: str) -> None:
    huge = b'{"%s": "%s", "payload": {}}' % (field.encode(), b"\\u001b[2J" * 50_000)
    _, item = a_router().route(huge)
    assert isinstance(item, Malformed)
    assert len(item.reason) <= 500
    assert item.reason.isprintable()
    assert item.reason.startswith(field)
