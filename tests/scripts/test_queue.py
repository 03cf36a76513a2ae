"""Fetching elements from an application's list: none lost, none doubled, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from relay.engine.fetch_recovery import FetchRecovery
from relay.engine.router import Router
from relay.errors import StoreError
from relay.message import LARGE
from relay.redis_client.replication import Replicas
from relay.redis_client.topology import Topology
from relay.settings.models import QueueSettings, Settings
from relay.store import dead
from relay.store.queue import FETCH_BYTES, NO_ACK, Ack, Fetch, Queue, have_elements, holders_of, push_all
from testing.builders import a_lane, options, plain_message, texts
from testing.redis_server import RedisServer
from tests.conftest import BINARIES

EMPTY = Fetch("", 0, [])

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 5)),
        st.tuples(
            st.sampled_from(["wait", "take", "directly", "directly in order", "directly, but another one"]),
            st.just(0),
        ),
        st.tuples(st.sampled_from(["fetch", "fetch, but the reply is lost"]), st.integers(1, 4)),
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
@given(
    steps=STEPS,
    name=st.sampled_from(["notifications", "a{tag}b", "with space"]),
    size=st.sampled_from([0, LARGE]),
)
def test_no_element_is_lost_or_doubled_by_any_sequence_of_calls(
    url: str, steps: list[tuple[str, int]], name: str, size: int
) -> None:
    asyncio.run(_play(url, name, steps, size))


async def _play(url: str, name: str, steps: list[tuple[str, int]], size: int) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        await redis.flushall()
        queue, lane = Queue(redis, "relay", name, "w1"), a_lane(redis)
        queue.waits.early = 60
        pushed: list[bytes] = []
        handled: list[bytes] = []
        batch = EMPTY
        for step, number in steps:
            if step == "push":
                fresh = [b"%d" % count + size * b"." for count in range(len(pushed), len(pushed) + number)]
                pushed += fresh
                await push_all(redis, name, fresh)
            elif step == "wait" and await redis.llen(name):
                assert await queue.waits.next(60)
            elif step == "take" and not batch.elements:
                if element := await queue.waits.next(0.01):
                    # A fetch may have taken it since the wait began.
                    is_first = await redis.lindex(queue.keys.staged, 0) == element
                    taken = await lane.take(plain_message(element.decode()), queue, element)
                    assert (taken is not None) == is_first
                    handled += [element] * is_first
            elif step == "fetch":
                handled += batch.elements
                before, batch = batch, await queue.fetch(Ack(batch.sequence), most=number)
                assert not batch.sequence or int(batch.sequence) > int(before.sequence or 0)
                # A worker that lost the reply fetches without an acknowledgement.
                assert await queue.fetch(most=number) == batch
            elif step == "fetch, but the reply is lost":
                assert batch.elements == [] or await queue.fetch(most=number) == batch
            elif step == "directly in order" or (step == "directly" and not batch.elements):
                moved: Any = await redis.lrange(queue.keys.staged, 0, -1)
                first = moved[0] if moved else b"none"
                key = first.decode() if step == "directly in order" else ""
                item = plain_message(first.decode(), ordering_key=key)
                enqueued = await lane.enqueue_direct(item, queue, first)
                assert (enqueued is not None) == bool(moved and not batch.elements)
                if enqueued is not None:
                    assert enqueued.left == len(moved) - 1 + await redis.llen(name)
                    assert texts((await lane.claim(10)).claims) == [first.decode()]
                    handled.append(first)
            elif step == "directly, but another one":
                item = plain_message("another")
                assert await lane.enqueue_direct(item, queue, b"another") is None
                assert (await lane.claim(10)).claims == []
            elif step == "die":
                await queue.waits.close()
                await Queue(redis, "relay", name, "w2").requeue("w1")
                batch = EMPTY
            staged = await redis.lrange(queue.keys.staged, 0, -1)
            left = await redis.lrange(name, 0, -1)
            assert handled + list(batch.elements) + staged + left == pushed
            assert await redis.lrange(queue.keys.processing("w1"), 0, -1) == list(batch.elements)
            assert await queue.holders() == (["w1"] if batch.elements else [])
            assert await queue.depth(["w1"]) == (len(staged + left), len(batch.elements))
        await queue.waits.close()


async def test_a_fetch_is_bounded_by_bytes(redis: Redis) -> None:
    queue = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"x" * (FETCH_BYTES // 2)] * 5)
    await queue.waits.next(1)
    assert len((await queue.fetch()).elements) == 2


async def test_rejected_elements_are_filed_once(redis: Redis) -> None:
    queue = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"a", b"b"])
    batch = await queue.fetch()
    for _ in range(2):
        await queue.fetch(Ack(batch.sequence, rejected=[("no provider", b"a")]))
    letters = [letter async for letter in dead.read(redis, queue.keys.rejected)]
    assert [(letter.raw, letter.reason) for letter in letters] == [(b"a", "no provider")]


async def test_a_staged_element_keeps_its_place_for_any_worker_that_fetches(redis: Redis) -> None:
    """The worker that waited for it may be dead, or cut off from Redis."""
    await push_all(redis, "q", [b"first", b"second", b"third"])
    for _ in range(2):
        assert await Queue(redis, "relay", "q", "w1").waits.next(1)
    assert (await Queue(redis, "relay", "q", "w2").fetch()).elements == [b"first", b"second", b"third"]


async def test_an_element_that_goes_directly_waits_for_earlier_fetches_only_if_its_order_counts(
    redis: Redis,
) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster the queue and the lane may lie on two nodes")
    lane, queue = a_lane(redis), Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"first", b"second"])
    await queue.fetch(most=1)
    assert await queue.waits.next(1) == b"second"
    ordered = plain_message("second", ordering_key="k")
    assert await lane.enqueue_direct(ordered, queue, b"second") is None
    assert await queue.depth() == (1, 0)
    enqueued = await lane.enqueue_direct(plain_message("second"), queue, b"second")
    assert enqueued is not None
    assert (enqueued.accepted, enqueued.ready, enqueued.left) == (1, 1, 0)
    assert await queue.depth() == (0, 0)


async def test_an_ordered_element_does_not_go_directly_while_others_wait_for_its_lane(redis: Redis) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster the queue and the lane may lie on two nodes")
    lane, queue = a_lane(redis), Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"first"])
    batch = await queue.fetch()
    await queue.fetch(Ack(batch.sequence, deferred=[(lane.provider, b"first")]), most=0)
    await push_all(redis, "q", [b"second"])
    assert await queue.waits.next(1) == b"second"
    first, second = (plain_message(text, ordering_key="k") for text in ("first", "second"))
    assert await lane.enqueue_direct(second, queue, b"second") is None
    assert await lane.enqueue_deferred(first, queue, b"first") is not None
    assert await lane.enqueue_direct(second, queue, b"second") is not None


async def test_an_acknowledgement_that_defers_elements_tells_those_that_wait_for_it(redis: Redis) -> None:
    first, second = (Queue(redis, "relay", "q", f"w{number}") for number in range(2))
    await push_all(redis, "q", [b"a", b"b"])
    batch = await first.fetch(most=1)
    waiting = await second.fetch()
    await first.fetch(Ack(batch.sequence, deferred=[("slow", b"a")]), most=0)
    assert await second.preceding(waiting.sequence) == (0, frozenset(["slow"]))


async def test_an_element_that_cannot_be_stored_in_its_lane_stays_in_its_queue(redis: Redis) -> None:
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster the queue and the lane may lie on two nodes")
    lane, queue = a_lane(redis), Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"first"])
    await redis.set(lane.keys.part("bodies"), "of another type")
    assert await queue.waits.next(1) == b"first"
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await lane.enqueue_direct(plain_message("first"), queue, b"first")
    assert (await queue.fetch()).elements == [b"first"]


async def test_a_fetch_counts_the_earlier_ones_that_are_not_acknowledged(redis: Redis) -> None:
    queues = [Queue(redis, "relay", "q", f"w{number}") for number in range(3)]
    await push_all(redis, "q", [b"a", b"b", b"c"])
    batches = [await queue.fetch(most=1) for queue in queues]
    assert [batch.preceding for batch in batches] == [0, 1, 2]
    await queues[1].fetch(Ack(batches[1].sequence), most=0)
    none = frozenset[str]()
    assert [await queues[0].preceding(batch.sequence) for batch in batches[::2]] == [(0, none), (1, none)]
    assert (await queues[2].fetch(most=0)).preceding == 1, "the same if it is fetched again"
    await push_all(redis, "q", [b"d"])
    assert (await queues[2].fetch(Ack(batches[2].sequence))).preceding == 1, "the next one counts, too"


async def test_a_fetch_that_a_failover_brought_back_is_not_forgotten(redis: Redis) -> None:
    """The processing list went back to an older fetch."""
    queue = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"older"])
    older = await queue.fetch()
    newer = str(int(older.sequence) + 1)
    assert await queue.fetch(Ack(newer, rejected=[("no provider", b"newer")])) == older
    assert not await redis.exists(queue.keys.rejected)


async def test_elements_that_a_lane_lost_in_a_failover_are_fetched_again(redis: Redis) -> None:
    """The lane had acknowledged them, on a master that was replaced at the same moment."""
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster a replica is waited for")
    lanes = [a_lane(redis, name=name) for name in ("one", "two")]
    queue = Queue(redis, "relay", "q", "w1")
    await push_all(redis, "q", [b"a", b"b"])
    batch = await queue.fetch()
    for lane in lanes:
        await lane.enqueue([plain_message(lane.provider)], queue.batch_id, batch.sequence)
    ack = Ack(batch.sequence, [lane.provider for lane in lanes])
    await redis.delete(lanes[1].keys.part("control"))
    assert await queue.fetch(ack) == batch
    await lanes[1].enqueue([plain_message("two")], queue.batch_id, batch.sequence)
    assert (await queue.fetch(ack)).elements == []


async def test_a_sequence_number_is_never_used_twice(redis: Redis) -> None:
    """Not even if a failover has undone the first use, or if many fetch within a microsecond."""
    await push_all(redis, "q", [b"%d" % number for number in range(40)])
    taken = [await Queue(redis, "relay", "q", f"w{number}").fetch(most=1) for number in range(20)]
    await redis.flushall()
    await push_all(redis, "q", [b"again"])
    numbers = [int(batch.sequence) for batch in (*taken, await Queue(redis, "relay", "q", "w1").fetch())]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("died", ["before", "between", "after"])
async def test_the_elements_of_a_dead_worker_are_recovered_exactly_once(redis: Redis, died: str) -> None:
    """It died before it enqueued into any lane, between two lanes, or after both."""
    lanes = {name: a_lane(redis, worker="w2", name=name) for name in ("one", "two")}
    queue_settings = QueueSettings(name="q")
    router = Router(
        queue_settings, Settings(queues=[queue_settings], providers=dict.fromkeys(lanes, options()))
    )
    elements = [b'{"provider":"%s","payload":{"text":"%s"}}' % (name, name) for name in (b"one", b"two")]
    await push_all(redis, "q", [*elements, b"nonsense"])
    queue = Queue(redis, "relay", "q", "w1")
    batch = await queue.fetch()
    by_lane, _ = router.sort(batch.elements)
    for name in {"before": [], "between": ["one"], "after": ["one", "two"]}[died]:
        await lanes[name].enqueue(by_lane[name], queue.batch_id, batch.sequence)
    for _ in range(2):  # the worker that recovers may die, too
        assert await FetchRecovery(Queue(redis, "relay", "q", "w1"), router, lanes, Replicas(redis)).recover()
    assert {name: texts((await lane.claim(10)).claims) for name, lane in lanes.items()} == {
        "one": ["one"],
        "two": ["two"],
    }
    assert len([letter async for letter in dead.read(redis, queue.keys.rejected)]) == 1
    assert (
        await redis.exists(
            "q", queue.keys.processing("w1"), queue.keys.sequence("w1"), queue.keys.outstanding
        )
        == 0
    )


async def test_ordered_elements_of_a_dead_worker_wait_for_earlier_fetches(redis: Redis) -> None:
    lanes = {"test": a_lane(redis, worker="w3")}
    queue_settings = QueueSettings(name="q", provider="test")
    router = Router(queue_settings, Settings(queues=[queue_settings], providers={"test": options()}))
    elements = [b'{"ordering_key":"k","payload":{"text":"%d"}}' % number for number in range(2)]
    await push_all(redis, "q", [*elements, b'{"payload":{"text":"free"}}'])
    queues = {worker: Queue(redis, "relay", "q", worker) for worker in ("w1", "w2", "w3")}
    for queue in queues.values():
        await queue.fetch(most=1)

    async def finish(worker: str) -> bool:
        return await FetchRecovery(queues[worker], router, lanes, Replicas(redis)).recover()

    assert not await finish("w2")
    assert await finish("w3"), "it may be overtaken"
    assert await finish("w1")
    assert await finish("w2")
    waiting = (await lanes["test"].claim(10)).claims
    assert texts(waiting) == ["free", "0"], "the second of the key waits for its turn"


@pytest.mark.parametrize("ahead", [0, 4_000_000], ids=["the clock goes on", "the clock was set back by 4 s"])
async def test_no_two_fetches_have_the_same_sequence_number(redis: Redis, ahead: int) -> None:
    """A lane ignores a sequence number that it knows: elements of a second fetch with it would be lost."""
    slow, quick = (Queue(redis, "relay", "q", worker) for worker in ("slow", "quick"))
    await push_all(redis, "q", [b"1", b"2", b"3", b"4"])
    held = int((await slow.fetch(most=1)).sequence)
    # The clock as it was when the slow worker fetched, as the quick ones see it.
    await redis.set(slow.keys.last_sequence, held + ahead)
    await redis.set(slow.keys.sequence("slow"), held + ahead)
    await redis.zadd(slow.keys.outstanding, {"slow": held + ahead})
    numbers, done = [held + ahead], NO_ACK
    for _ in range(3):
        done = Ack((await quick.fetch(done, most=1)).sequence)
        numbers.append(int(done.sequence))
    assert numbers == sorted(set(numbers))


async def test_many_queues_are_read_with_few_commands_and_each_has_its_own_answer(redis: Redis) -> None:
    names = [f"q{number}" for number in range(250)]
    queues = [Queue(redis, "relay", name, "w1") for name in names]
    await push_all(redis, "q120", [b"waits"])
    await push_all(redis, "q249", [b"fetched"])
    await queues[249].fetch()
    await redis.set(queues[7].keys.outstanding, "of another type")
    found = await have_elements(redis, queues)
    assert [name for name, has in zip(names, found, strict=True) if has is not False] == ["q120"]
    holders = dict(zip(names, await holders_of(redis, "relay", names), strict=True))
    assert {name: held for name, held in holders.items() if held != []} == {"q7": None, "q249": ["w1"]}

    await redis.flushall()
    await redis.config_resetstat()
    assert await have_elements(redis, queues) == [False] * 250
    assert await holders_of(redis, "relay", names) == [[]] * 250
    if Topology.of(redis).is_one:
        sent = await redis.info("commandstats")
        assert sum(sent.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("exists", "zrange")) < 10
