"""Detection of dead workers, and recovery of the messages that they held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.engine.failure_detector import FailureDetector, host_id
from relay.engine.fetch_recovery import FetchRecovery
from relay.engine.recovery import Recovery, RecoveryTuning
from relay.engine.router import Router
from relay.errors import StoreError
from relay.redis_client.replication import Replicas
from relay.settings.models import QueueSettings, Settings
from relay.store import dead
from relay.store.fleet import LEASE, LINGER, Fleet, Member, WorkerInfo
from relay.store.lane import Lane
from relay.store.queue import Ack, Queue, push_all
from testing.builders import a_lane, options, plain_message, texts

DEAD_PID = 2**22 + 1
OURS = host_id()
TUNING = RecoveryTuning()


def a_worker(worker: str, **fields: Any) -> WorkerInfo:
    known: dict[str, Any] = {"host": "h", "host_id": "", "pid": 1, "version": "1", "started": 0.0}
    return WorkerInfo(worker, **{**known, "lanes": ("test",), "queues": ("q",), **fields})


def a_member(worker: str, beat: float) -> Member:
    return Member(a_worker(worker), 0.0, beat)


def dead_after(
    checks: Sequence[tuple[float, list[Member]]], detector: FailureDetector | None = None
) -> set[str]:
    """The workers that are dead at the last of several checks, each at its time."""
    detector = detector or FailureDetector(a_worker("own"), TUNING.gap)
    return [detector.check(members, now) for now, members in checks][-1]


def test_a_worker_that_goes_on_beating_is_never_dead() -> None:
    checks = [(100 + 2 * number, [a_member("w", number)]) for number in range(20)]
    assert dead_after(checks) == set()


@pytest.mark.parametrize(("seconds", "dead"), [(LEASE, set()), (LEASE + 1, {"w"})])
def test_a_worker_without_a_new_beat_is_dead_after_its_lease(seconds: float, dead: set[str]) -> None:
    checks = [(100 + seconds * number / 8, [a_member("w", 7)]) for number in range(9)]
    assert dead_after(checks) == dead


def test_a_worker_does_not_take_itself_for_dead() -> None:
    checks = [(100 + 2 * number, [a_member("own", 7)]) for number in range(20)]
    assert dead_after(checks) == set()


def test_a_changed_clock_declares_no_worker_dead() -> None:
    """Redis's clock steps by a day; the worker beats on."""
    beats = [*range(3), *range(86_400_000, 86_400_010), *range(3, 10)]
    checks = [(100 + 2 * number, [a_member("w", beat)]) for number, beat in enumerate(beats)]
    assert dead_after(checks) == set()


def test_an_outage_declares_no_worker_dead() -> None:
    """No worker could beat while Redis was unreachable, and one of them is the first to check afterwards."""
    checks = [(100.0, [a_member("w", 1)]), (100.0 + TUNING.gap + 60, [a_member("w", 1)])]
    assert dead_after(checks) == set()


def test_an_outage_of_redis_restarts_the_failure_detector() -> None:
    detector = FailureDetector(a_worker("own"), TUNING.gap)
    silent = [(100 + 2 * number, [a_member("w", 1)]) for number in range(10)]
    assert dead_after(silent, detector) == {"w"}
    detector.clear()
    assert dead_after([(120.0, [a_member("w", 1)])], detector) == set()


def a_router(name: str = "q") -> Router:
    queue = QueueSettings(name=name, provider="test")
    return Router(queue, Settings(queues=[queue], providers={"test": options()}))


def recovery(redis: Redis, worker: str = "w2") -> Recovery:
    lanes = {"test": a_lane(redis, worker=worker)}
    info = a_worker(worker, host_id=OURS)
    return Recovery(redis, "relay", Fleet(redis, "relay"), info, lanes, {"q": a_router()}, tuning=TUNING)


@pytest.fixture
def redis_server(newest_redis_server: object) -> object:
    return newest_redis_server


@pytest.mark.parametrize("kind", ["refusal", "bug"])
async def test_a_dead_worker_that_cannot_be_recovered_stops_no_other(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    fleet, recoverer = Fleet(redis, "relay"), recovery(redis)
    for worker in ("w0", "w1"):
        await fleet.heartbeat(a_worker(worker, host_id=OURS, pid=DEAD_PID))
    lane = a_lane(redis, worker="w1")
    await lane.enqueue([plain_message("held")])
    await lane.claim(10)
    if kind == "refusal":
        await redis.set(lane.keys.inflight("w0"), "somebody else's text")
    else:
        recover = Lane.recover

        async def broken(self: Lane, worker: str) -> int:
            if worker == "w0":
                raise KeyError(worker)
            return await recover(self, worker)

        monkeypatch.setattr(Lane, "recover", broken)
    assert await recoverer.recover_dead() == 1
    assert [member.info.worker for member in await fleet.members()] == ["w0"]
    assert texts((await a_lane(redis, worker="w2").claim(10)).claims) == ["held"]


async def test_messages_fetched_by_a_worker_after_its_recovery_are_released(redis: Redis) -> None:
    """It was frozen, and fetched and claimed before it learned that it had been recovered."""
    fleet = Fleet(redis, "relay")
    await fleet.heartbeat(a_worker("w1"))
    await fleet.leave("w1")
    await push_all(redis, "q", [b'{"payload":{"text":"taken"}}'])
    await Queue(redis, "relay", "q", "w1").fetch()
    lane = a_lane(redis, worker="w1")
    await lane.enqueue([plain_message("held")])
    await lane.claim(10)
    assert await recovery(redis).sweep() == 2
    assert texts((await a_lane(redis, worker="w2").claim(10)).claims) == ["held", "taken"]
    assert await recovery(redis).sweep() == 0


async def test_messages_of_an_unregistered_worker_are_released(redis: Redis) -> None:
    """It died while a failover undid its first heartbeat."""
    await push_all(redis, "q", [b'{"payload":{"text":"taken"}}'])
    await Queue(redis, "relay", "q", "w1").fetch()
    recoverer = recovery(redis)
    assert await recoverer.sweep() == 0, "it may be about to join"
    await redis.delete(Fleet(redis, "relay").keys.recovery_lock)
    assert await recoverer.sweep() == 1
    assert texts((await a_lane(redis, worker="w2").claim(10)).claims) == ["taken"]


async def test_a_worker_that_is_gone_for_long_is_forgotten_with_its_marks(redis: Redis) -> None:
    fleet, queue = Fleet(redis, "relay"), Queue(redis, "relay", "q", "w1")
    await fleet.heartbeat(a_worker("w1"))
    await a_lane(redis).enqueue([], queue.batch_id, "1:0")
    await queue.begin_recovery("a recoverer that died")
    await fleet.leave("w1")
    await recovery(redis).sweep()
    assert [member.info.worker for member in await fleet.gone()] == ["w1"], "not yet"
    await redis.zadd(fleet.keys.gone, {"w1": (await fleet.now() - TUNING.remembered - 1) * 1000})
    await redis.delete(fleet.keys.recovery_lock)
    await recovery(redis).sweep()
    assert await fleet.gone() == []
    assert not await redis.hgetall(fleet.keys.profiles)
    assert not await a_lane(redis).has_batch(queue.batch_id, "1:0")
    assert not await redis.exists(queue.keys.recoverers("w1"))


async def test_a_worker_that_comes_back_is_no_longer_gone(redis: Redis) -> None:
    fleet = Fleet(redis, "relay")
    for _ in range(2):
        assert not await fleet.heartbeat(a_worker("w1"))
        assert await fleet.gone() == []
        assert await fleet.heartbeat(a_worker("w1"))
        await fleet.leave("w1")
    assert await fleet.members() == []


async def test_a_batch_enqueued_after_its_worker_was_recovered_counts_once(
    redis: Redis,
) -> None:
    fleet = Fleet(redis, "relay")
    recoverer = recovery(redis)
    await fleet.heartbeat(a_worker("w1", host_id=OURS, pid=DEAD_PID))
    await push_all(redis, "q", [b'{"payload":{"text":"once"}}'])
    frozen = Queue(redis, "relay", "q", "w1")
    batch = await frozen.fetch()
    assert await recoverer.recover_dead() == 1
    by_lane, _ = a_router().sort(batch.elements)
    await a_lane(redis, worker="w1").enqueue(by_lane["test"], frozen.batch_id, batch.sequence)
    assert texts((await a_lane(redis, worker="w2").claim(10)).claims) == ["once"]
    assert (await frozen.fetch(Ack(batch.sequence))).elements == []


@pytest.mark.parametrize("is_read", [True, False], ids=["a living worker has it", "no living worker has it"])
async def test_fetches_of_a_queue_that_the_file_does_not_name_keep_their_order(
    redis: Redis, is_read: bool
) -> None:
    """They go back to the queue, unless a living worker may have fetched later elements already."""
    fleet, queues = Fleet(redis, "relay"), ("other",)
    elements = [b'{"payload":{"text":"%d"}}' % number for number in range(3)]
    await push_all(redis, "other", elements)
    for worker in ("w1", "w3"):
        await fleet.heartbeat(a_worker(worker, queues=queues, host_id=OURS, pid=DEAD_PID))
        await Queue(redis, "relay", "other", worker).fetch(most=1)
    if is_read:
        await fleet.heartbeat(a_worker("w4", queues=queues))
    assert await recovery(redis).recover_dead() == 2
    reader = Queue(redis, "relay", "other", "w4")
    assert await reader.depth(["w1", "w3"]) == ((1, 2) if is_read else (3, 0))
    if is_read:
        router, lanes = a_router("other"), {"test": a_lane(redis, worker="w4")}
        sweeper = Recovery(redis, "relay", fleet, a_worker("w4"), lanes, {"other": router}, tuning=TUNING)
        await redis.delete(fleet.keys.recovery_lock)
        assert await sweeper.sweep() == 2
        assert sorted(texts((await lanes["test"].claim(10)).claims)) == ["0", "1"]
    else:
        assert (await reader.fetch()).elements == elements


async def test_a_queue_or_lane_that_cannot_be_recovered_holds_up_no_other(redis: Redis) -> None:
    """Somebody wrote to keys of relay's: a batch is no list any more, and messages in flight are no hash."""
    fleet, lane = Fleet(redis, "relay"), a_lane(redis, worker="w1")
    info = a_worker("w1", queues=("broken", "q"), lanes=("broken", "test"), host_id=OURS, pid=DEAD_PID)
    await fleet.heartbeat(info)
    await fleet.heartbeat(a_worker("w3", host_id=OURS, pid=DEAD_PID))
    await push_all(redis, "q", [b'{"payload":{"text":"taken"}}'])
    await Queue(redis, "relay", "q", "w1").fetch()
    await lane.enqueue([plain_message("held")])
    await lane.claim(10)
    await redis.set("relay:{broken}:processing:w1", "mine")
    await redis.set("relay:{broken}:inflight:w1", "mine")
    recoverer = recovery(redis)
    assert await recoverer.recover_dead() == 1, "the other one has nothing that is broken"
    assert texts((await a_lane(redis, worker="w2").claim(10)).claims) == ["held", "taken"]
    assert {member.info.worker for member in await fleet.members()} == {"w1"}
    assert any("broken" in trouble and "WRONGTYPE" in trouble for trouble in recoverer.troubles())
    await redis.delete("relay:{broken}:processing:w1", "relay:{broken}:inflight:w1", fleet.keys.recovery_lock)
    assert await recoverer.recover_dead() == 1
    assert await fleet.members() == []


@pytest.mark.parametrize(
    "profile",
    [b"", b"{", b"[]", b'{"worker": 1}', b"\xff\xfe", b'{"worker":"\xff"}', b"[" * 200_000, None],
    ids=["empty", "cut", "list", "wrong type", "no UTF-8", "bad text", "deep", "absent"],
)
async def test_a_worker_with_an_unreadable_profile_is_recovered(redis: Redis, profile: bytes | None) -> None:
    fleet, lane = Fleet(redis, "relay"), a_lane(redis, worker="w1")
    for worker in ("w1", "other"):
        await fleet.heartbeat(a_worker(worker))
    await redis.hdel(fleet.keys.profiles, "w1")
    if profile is not None:
        await redis.hset(fleet.keys.profiles, "w1", profile)
    await lane.enqueue([plain_message("held")])
    await lane.claim(10)
    assert {member.info.worker for member in await fleet.members()} == {"w1", "other"}
    recoverer = recovery(redis)
    await fleet.leave("w1")
    assert [member.info.worker for member in await fleet.gone()] == ["w1"]
    assert await recoverer.sweep() == 1
    assert texts((await a_lane(redis, worker="w2").claim(10)).claims) == ["held"]


async def test_a_member_without_a_worker_s_name_is_passed_over(redis: Redis) -> None:
    fleet = Fleet(redis, "relay")
    await fleet.heartbeat(a_worker("w1"))
    await redis.zadd(fleet.keys.workers, {b"\xff\xfe": 1})
    assert [member.info.worker for member in await fleet.members()] == ["w1"]


@pytest.mark.parametrize("key", ["workers", "profiles", "gone"])
async def test_a_heartbeat_writes_nothing_if_a_key_holds_something_else(redis: Redis, key: str) -> None:
    fleet = Fleet(redis, "relay")
    await redis.set(f"relay:{{fleet}}:{key}", "mine")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await fleet.heartbeat(a_worker("w1"))
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await fleet.heartbeat(a_worker("w1"))
    assert await redis.keys() == [f"relay:{{fleet}}:{key}".encode()]
    await redis.delete(f"relay:{{fleet}}:{key}")
    assert await fleet.heartbeat(a_worker("w1")) is False


@pytest.mark.parametrize("lock", ["stream", "without an end"])
async def test_a_recovery_lock_that_never_ends_is_trouble_and_not_silence(redis: Redis, lock: str) -> None:
    fleet = Fleet(redis, "relay")
    await fleet.heartbeat(a_worker("w1", host_id=OURS, pid=DEAD_PID))
    if lock == "stream":
        await redis.xadd(fleet.keys.recovery_lock, {"x": "y"})
    else:
        await redis.set(fleet.keys.recovery_lock, "mine")
    recoverer = recovery(redis)
    loop = asyncio.create_task(recoverer.run())
    try:
        async with asyncio.timeout(120):
            while not any(fleet.keys.recovery_lock in trouble for trouble in recoverer.troubles()):
                await asyncio.sleep(0.01)
            await redis.delete(fleet.keys.recovery_lock)
            while await fleet.members():
                await asyncio.sleep(0.01)
    finally:
        loop.cancel()


async def test_wake_up_calls_of_anybody_are_bounded_work(redis: Redis) -> None:
    """Garbage and floods on the channel: lanes that are called come through, a few times a second."""
    fleet = Fleet(redis, "relay")
    heard: list[frozenset[str]] = []

    async def listen() -> None:
        async for called in fleet.subscribe():
            if called is None:
                listening.set()
            else:
                heard.append(called)

    listening = asyncio.Event()
    listener = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(120):
            await listening.wait()
            for garbage in (b"\xff\xfe", b"", b"x" * 1_000_000, b"\x00"):
                await redis.publish(fleet.keys.wake, garbage)
            began = asyncio.get_running_loop().time()
            for _ in range(500):
                await redis.publish(fleet.keys.wake, "a")
            async with redis.pipeline(transaction=False) as pipe:
                for _ in range(2000):
                    pipe.publish(fleet.keys.wake, "a")
                pipe.publish(fleet.keys.wake, "last")
                await pipe.execute()
            while not any("last" in called for called in heard):
                await asyncio.sleep(0.01)
    finally:
        listener.cancel()
    assert len(heard) <= (asyncio.get_running_loop().time() - began) / LINGER + 2


class Death(BaseException):
    """Ends a worker on the spot: nothing of it runs any more."""


class DeadlyRouter(Router):
    """Kills the worker that reads a certain element."""

    def route(self, element: bytes) -> Any:
        if b"deadly" in element:
            raise Death
        return super().route(element)


@pytest.mark.parametrize("partly", [False, True], ids=["nothing enqueued", "enqueued before it died"])
async def test_an_element_that_kills_its_worker_three_times_is_a_dead_letter(
    redis: Redis, partly: bool
) -> None:
    elements = [b'{"payload":{"text":"%s"}}' % text for text in (b"a", b"deadly", b"b", b"c")]
    await push_all(redis, "q", elements)
    queue = Queue(redis, "relay", "q", "w1")
    batch = await queue.fetch()
    settings_of_queue = QueueSettings(name="q", provider="test")
    router = DeadlyRouter(
        settings_of_queue, Settings(queues=[settings_of_queue], providers={"test": options()})
    )
    lanes = {"test": a_lane(redis)}
    if partly:
        good = [router.route(element)[1] for element in elements if b"deadly" not in element]
        await lanes["test"].enqueue(good, queue.batch_id, batch.sequence)
    deaths = 1  # the worker that had taken it

    async def finish(recoverer: str) -> bool:
        return await FetchRecovery(queue, router, lanes, Replicas(redis), recoverer).recover(["alive"])

    for number in range(10):
        try:
            assert await finish(f"r{number}")
            break
        except Death:
            deaths += 1
    assert deaths == 3
    assert sorted(texts((await lanes["test"].claim(10)).claims)) == ["a", "b", "c"]
    (letter,) = [letter async for letter in dead.read(redis, queue.keys.rejected)]
    assert letter.raw == elements[1]
    assert letter.reason == "poison: 3 workers died while they took it from the queue"
    left = {key async for key in redis.scan_iter("relay:{q}:*")}
    assert left == {queue.keys.rejected.encode(), queue.keys.last_sequence.encode()}


async def test_elements_that_are_recovered_one_by_one_follow_deferred_ones(redis: Redis) -> None:
    elements = [b'{"ordering_key":"k","payload":{"text":"%s"}}' % text for text in (b"a", b"b", b"c")]
    await push_all(redis, "q", elements)
    other, queue = (Queue(redis, "relay", "q", name) for name in ("w2", "w1"))
    earlier = await other.fetch(most=1)
    await queue.fetch()
    await other.fetch(Ack(earlier.sequence, deferred=[("test", earlier.elements[0])]), most=0)
    await queue.begin_recovery("dead")
    router = a_router()
    lanes = {"test": a_lane(redis)}
    assert await FetchRecovery(queue, router, lanes, Replicas(redis), "r").recover([])
    assert await queue.deferred("test") == elements
    assert await lanes["test"].size() == 0


async def test_elements_that_are_recovered_one_by_one_wait_behind_one_that_its_lane_refuses(
    redis: Redis,
) -> None:
    lane = a_lane(redis)
    wrong = lane.keys.part("ordering")

    class RepairingQueue(Queue):
        """Lets the lane accept messages again after the first element."""

        async def pop_first(self, *arguments: Any, **options: Any) -> bool:
            await redis.delete(wrong)
            return await super().pop_first(*arguments, **options)

    elements = [b'{"ordering_key":"k","payload":{"text":"%s"}}' % text for text in (b"a", b"b")]
    await push_all(redis, "q", elements)
    queue = RepairingQueue(redis, "relay", "q", "w1")
    await queue.fetch()
    await queue.begin_recovery("dead")
    await redis.set(wrong, "of another type")
    router = a_router()
    assert await FetchRecovery(queue, router, {"test": lane}, Replicas(redis), "r").recover([])
    assert await queue.deferred("test") == elements


async def test_a_recoverer_that_lives_does_not_count_as_a_death(redis: Redis) -> None:
    """Trouble with Redis interrupted the recovery, and another worker continues it."""
    await push_all(redis, "q", [b'{"payload":{"text":"a"}}'])
    await Queue(redis, "relay", "q", "w1").fetch()
    queue = Queue(redis, "relay", "q", "w1")
    for name in ("r1", "r2", "r3"):
        await queue.begin_recovery(name)
    router = a_router()
    lanes = {"test": a_lane(redis)}
    await FetchRecovery(queue, router, lanes, Replicas(redis), "r4").recover(["r1", "r2", "r3"])
    assert texts((await lanes["test"].claim(10)).claims) == ["a"]
