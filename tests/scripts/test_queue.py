"""Taking elements off an application's list: none lost, none doubled, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from relay.intake import Router, batch_mark, batch_number, finish_batch
from relay.settings.models import QueueSettings, Settings
from relay.store import dead
from relay.store.queue import BATCH_BYTES, Queue, push_all
from tests.conftest import BINARIES
from tests.support.builders import a_lane, options, texts
from tests.support.redis_server import RedisServer

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 5)),
        st.tuples(st.just("wait"), st.just(0)),
        st.tuples(st.sampled_from(["take", "take twice"]), st.integers(1, 4)),
        st.tuples(st.just("die"), st.just(0)),
    ),
    max_size=25,
)


@pytest.fixture(scope="module", params=sorted(BINARIES), ids=lambda version: f"redis-{version}")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisServer(BINARIES[request.param], tmp_path_factory.mktemp("queue")).start()
    yield server.url
    server.stop()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, name=st.sampled_from(["notifications", "a{tag}b", "with space"]))
def test_no_element_is_lost_or_doubled_whatever_happens(
    url: str, steps: list[tuple[str, int]], name: str
) -> None:
    asyncio.run(_play(url, name, steps))


async def _play(url: str, name: str, steps: list[tuple[str, int]]) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        queue = Queue(redis, "relay", name, "w1")
        pushed: list[bytes] = []
        handled: list[bytes] = []
        in_hand: list[bytes] = []
        turn = 0
        for step, number in steps:
            if step == "push":
                fresh = [b"%d" % count for count in range(len(pushed), len(pushed) + number)]
                pushed += fresh
                await push_all(redis, name, fresh)
            elif step == "wait" and not in_hand and await redis.llen(name):
                element = await queue.wait(1)
                assert element is not None
                in_hand = [element]
            elif step in ("take", "take twice"):
                turn += 1
                handled += in_hand
                done = len(in_hand)
                in_hand = await queue.take(turn, turn - 1, done, most=number)
                if step == "take twice":  # the first answer was lost
                    assert await queue.take(turn, turn - 1, done, most=number) == in_hand
            elif step == "die":
                await Queue(redis, "relay", name, "w2").give_back("w1")
                in_hand, turn = [], 0
            left = await redis.lrange(name, 0, -1)
            assert handled + in_hand + left == pushed
            assert await redis.lrange(queue.keys.processing("w1"), 0, -1) == in_hand


async def test_a_batch_is_bounded_by_bytes(redis: Redis) -> None:
    queue = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"x" * (BATCH_BYTES // 2)] * 5)
    assert len(await queue.take(1)) == 2


async def test_rejected_elements_are_filed_once(redis: Redis) -> None:
    queue = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"a", b"b"])
    await queue.take(1)
    for _ in range(2):
        await queue.take(2, 1, 2, [("no provider", b"a")])
    letters = [letter async for letter in dead.read(redis, queue.keys.rejected)]
    assert [(letter.raw, letter.reason) for letter in letters] == [(b"a", "no provider")]


async def test_an_element_that_comes_over_a_lost_connection_is_not_forgotten(
    redis: Redis,
) -> None:
    """Redis did not know that the first wait was given up, and moved an element for it."""
    queue = Queue(redis, "relay", "q", "w1")
    assert await queue.take(1) == []
    await push_all(redis, "q", [b"late", b"ours"])
    assert await queue.wait(1) == b"late"  # nobody heard it
    assert await queue.wait(1) == b"ours"
    assert await queue.take(2, 1, 1) == [b"late", b"ours"]
    assert await queue.take(3, 2, 2) == []


async def test_what_a_failover_has_undone_is_not_forgotten(redis: Redis) -> None:
    """The processing list went back to an older batch of the same size."""
    queue = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"older"])
    assert await queue.take(1) == [b"older"]
    assert await queue.take(3, 2, 1, [("no provider", b"newer")]) == [b"older"]
    assert not await redis.exists(queue.keys.rejected)


@pytest.mark.parametrize("died", ["before", "between", "after"])
async def test_a_dead_worker_s_batch_is_finished_exactly_once(redis: Redis, died: str) -> None:
    """It died before it put its batch into any lane, between two lanes, or after both."""
    lanes = {name: a_lane(redis, worker="w2", name=name) for name in ("one", "two")}
    queue_settings = QueueSettings(name="q")
    router = Router(
        queue_settings, Settings(queues=[queue_settings], providers=dict.fromkeys(lanes, options()))
    )
    elements = [b'{"provider":"%s","payload":{"text":"%s"}}' % (name, name) for name in (b"one", b"two")]
    await push_all(redis, "q", [*elements, b"nonsense"])
    queue = Queue(redis, "relay", "q", "w1")
    batch = await queue.take(1)
    by_lane, _ = router.sort(batch)
    for name in {"before": [], "between": ["one"], "after": ["one", "two"]}[died]:
        await lanes[name].enqueue(by_lane[name], batch_mark("w1", "q"), batch_number(1, batch))
    for _ in range(2):  # whoever recovers may die, too
        await finish_batch(Queue(redis, "relay", "q", "w1"), router, lanes, "w1")
    assert {name: texts((await lane.claim(10)).claims) for name, lane in lanes.items()} == {
        "one": ["one"],
        "two": ["two"],
    }
    assert len([letter async for letter in dead.read(redis, queue.keys.rejected)]) == 1
    assert await redis.exists("q", queue.keys.processing("w1"), queue.keys.turn("w1")) == 0
