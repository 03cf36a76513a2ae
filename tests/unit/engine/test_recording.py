"""The recorder and the flusher on a real Redis: nothing is lost or doubled, and memory is bounded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import capture_logs

from relay.engine import repeats
from relay.engine.dispatcher import Dispatcher
from relay.engine.flusher import Flusher
from relay.engine.policy import Policy
from relay.engine.recorder import LaneRecorder, RecorderTuning
from relay.errors import StoreError
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.settings.options import ProviderOptions
from relay.settings.values import Secret
from relay.store import journal
from relay.store.claims import Claim
from relay.store.fleet import Fleet
from relay.store.journal import JournalEntry
from relay.store.keys import LaneKeys
from relay.store.recording import Policy as RecordPolicy
from relay.store.recording import Recording, Report
from relay.store.statistics import Counts, read_recent
from testing.builders import a_lane, a_message, options
from testing.fake_provider import FakeProvider
from testing.redis_server import RedisServer

TUNING = RecorderTuning()
STREAM = LaneKeys.of("relay", "test").part("journal")


class LosesReplies(Recording):
    """A connection that breaks when a test orders it: before Redis gets a report, or before its reply."""

    fault = ""

    async def write(self, reports: Mapping[str, Report]) -> dict[str, StoreError]:
        fault, self.fault = self.fault, ""
        if fault != "before":
            failures = await super().write(reports)
            if not fault:
                return failures
            assert failures == {}
        return dict.fromkeys(reports, StoreError("the connection was closed")) if fault else {}


class Bench:
    """A recorder and its flusher, without a lane."""

    def __init__(self, redis: Redis, tuning: RecorderTuning = TUNING, **fields: Any) -> None:
        self.redis = redis
        self.options = options(**fields)
        self.recorder = LaneRecorder(self.options, "w1", tuning=tuning)
        most = self.options.journal.most if self.options.journal else 0
        self.recording = LosesReplies(redis, "relay", {"test": RecordPolicy("w1", 0.0, most)})
        self.clock = 0.0
        self.flusher = Flusher(self.recording, {"test": self.recorder}, clock=lambda: self.clock)
        self.policy = Policy(self.options)

    def deliver(self, number: int, status: int = 200, **fields: Any) -> None:
        for _ in range(number):
            self.recorder.answered([a_claim(**fields)], [Delivered()], time.monotonic() - 0.02, status)

    def fail(self, outcome: Any, claim: Claim | None = None) -> None:
        claim, started = claim or a_claim(), time.monotonic() - 0.5
        self.recorder.answered([claim], [outcome], started, 0)
        printable = self.policy.printable(outcome)
        self.recorder.failed(claim, printable, self.policy.settle_failure(claim, printable), started, 0)

    async def counts(self) -> Counts:
        now = await Fleet(self.redis, "relay").now()
        return (await read_recent(self.redis, "relay", ["test"], now=now, minutes=3))["test"]

    async def entries(self) -> list[JournalEntry]:
        """The entries, the oldest first."""
        return (await journal.latest(self.redis, "relay", "test", limit=100_000))[::-1]


def a_claim(text: str = "m", **fields: Any) -> Claim:
    return Claim("4", "1", a_message(text, created_at=time.time() - 3, **fields))


@pytest.fixture
def bench(redis: Redis) -> Bench:
    return Bench(redis)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 30)),
        st.tuples(st.just("fail"), st.integers(1, 30)),
        st.tuples(st.just("flush"), st.sampled_from(["", "before", "after"])),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(steps=STEPS)
def test_no_count_and_no_entry_is_lost_or_doubled_if_flushes_fail(
    newest_redis_server: RedisServer, steps: list[tuple[str, Any]]
) -> None:
    async def run() -> None:
        async with Redis.from_url(newest_redis_server.url, protocol=2) as redis:
            await redis.flushall()
            bench = Bench(redis, RecorderTuning(most_in_report=7), journal={"sample": "all"})
            expected = Counter[str]()
            for step, value in steps:
                match step:
                    case "deliver":
                        bench.deliver(value)
                        expected["200"] += value
                    case "fail":
                        for _ in range(value):
                            bench.fail(Retry("503: full", 503))
                        expected["503"] += value
                    case _:
                        bench.recording.fault = value
                        await bench.flusher.flush()
            bench.recording.fault = ""
            await bench.flusher.flush()
            await bench.flusher.flush()
            counts = await bench.counts()
            assert counts.statuses == {key: number for key, number in expected.items() if number}
            assert counts.delivery.count == expected["200"]
            assert counts.request.count == expected.total()
            entries = Counter(entry.outcome for entry in await bench.entries())
            assert (entries["delivered"], entries["retry"]) == (expected["200"], expected["503"])

    asyncio.run(run())


async def test_every_failure_has_an_entry_and_deliveries_a_sample(redis: Redis) -> None:
    bench = Bench(redis, journal={"sample": "3/s"})
    for _ in range(5):
        bench.deliver(20)
        bench.fail(Retry("503", 503))
        bench.clock += 1
        await bench.flusher.flush()
    entries = Counter(entry.outcome for entry in await bench.entries())
    assert entries == {"delivered": 15, "retry": 5}
    assert (await bench.counts()).statuses == {"200": 100, "503": 5}


async def test_a_low_sample_admits_one_delivery_now_and_then(redis: Redis) -> None:
    bench = Bench(redis, journal={"sample": "30/m"})
    for _ in range(6):
        bench.deliver(5)
        bench.clock += 1
        await bench.flusher.flush()
    assert len(await bench.entries()) == 3


async def test_a_lane_without_a_journal_has_statistics_all_the_same(redis: Redis) -> None:
    bench = Bench(redis, journal="off")
    bench.deliver(3)
    bench.fail(Rejected("no", 400))
    await bench.flusher.flush()
    assert not await redis.exists(STREAM)
    counts = await bench.counts()
    assert (counts.statuses, counts.reasons) == ({"200": 3, "400": 1}, {"no": 1})


@pytest.mark.parametrize(
    ("outcome", "expected", "reason", "target"),
    [
        (Retry("503: full", 503), "retry", "503: full", ""),
        (Throttled("429: slow down", 2.0, 429), "throttled", "429: slow down", ""),
        (Rejected("400: bad", 400), "rejected", "400: bad", ""),
        (Unregistered("token-1", "gone", 410), "unregistered", "gone", "token-1"),
        (Unauthorised("401: key", 401, target="token-2"), "unauthorised", "401: key", "token-2"),
    ],
)
async def test_an_entry_has_the_end_of_an_attempt(
    bench: Bench, outcome: Outcome, expected: str, reason: str, target: str
) -> None:
    message = {"group": "acme", "ordering_key": "o", "collapse_key": "c", "traceparent": "00-1-2-01"}
    bench.fail(outcome, a_claim("m1", attempts=2, **message))
    await bench.flusher.flush()
    (entry,) = await bench.entries()
    assert (entry.id, entry.outcome, entry.reason, entry.target) == ("m1", expected, reason, target)
    assert (entry.status, entry.attempt, entry.worker) == (getattr(outcome, "status", 0), 3, "w1")
    assert {name: getattr(entry, name) for name in message} == message
    assert 0.5 <= entry.request_seconds < 60
    assert 3 <= entry.waited < 300


async def test_the_last_attempt_is_dead_in_the_journal(redis: Redis) -> None:
    bench = Bench(redis, retry={"attempts": 2})
    bench.fail(Retry("503"))
    bench.fail(Retry("503"), a_claim(attempts=1))
    await bench.flusher.flush()
    assert [entry.outcome for entry in await bench.entries()] == ["retry", "dead"]


async def test_a_journal_and_statistics_have_no_secret(redis: Redis) -> None:
    class Keyed(ProviderOptions):
        key: Secret = Secret("s3cret-key")

    keyed = Keyed(type="test")
    recorder, policy, claim = LaneRecorder(keyed, "w1"), Policy(keyed), a_claim()
    outcome = policy.printable(Retry("no s3cret-key\nwhsec_AAAA\x1b[2J", 500))
    recorder.failed(claim, outcome, policy.settle_failure(claim, outcome), 0.1, 500)
    recorder.answered([a_claim()], [Delivered("id\n s3cret-key")], time.monotonic(), 200)
    report = recorder.take("1")
    assert report is not None
    assert "s3cret" not in str(report.reasons)
    entries = b"".join(report.entries)
    assert len(report.entries) == 2
    for text in (b"s3cret", b"AAAA", b"\x1b[", b"\n s"):
        assert text not in entries


async def test_reasons_are_counted_without_their_numbers_and_ids(bench: Bench) -> None:
    for number in range(50):
        bench.fail(Retry(f"503: node-{number}a9 of 'cluster {number}' is full, try https://x/{number}"))
    await bench.flusher.flush()
    reasons = (await bench.counts()).reasons
    assert list(reasons.values()) == [50]


async def test_the_oldest_entries_are_dropped_and_logged_once_while_redis_is_away(redis: Redis) -> None:
    bench = Bench(redis, RecorderTuning(most_entries=10, most_in_report=4))
    for number in range(30):
        bench.fail(Retry("503"), a_claim(f"m{number}"))
        bench.recording.fault = "before"
        await bench.flusher.flush()
    with capture_logs() as lines:
        await bench.flusher.flush()
        repeats.thinned.flush_all()
    kept = [entry.id for entry in await bench.entries()]
    assert kept[-10:] == [f"m{number}" for number in range(20, 30)]
    assert len(kept) < 30
    dropped = [line for line in lines if line["event"] == "journal entries were dropped"]
    assert [line["count"] for line in dropped] == [30 - len(kept)]
    assert (await bench.counts()).request.count == 30


async def test_groups_are_counted_for_the_largest_only(redis: Redis) -> None:
    bench = Bench(redis, groups={"by": "message"}, journal="off")
    for number in range(60):
        bench.deliver(1 + number, group=f"g{number}")
    bench.fail(Retry("503"), a_claim(group="g59"))
    await bench.flusher.flush()
    groups = (await bench.counts()).groups
    assert next(iter(groups)) == "g59"
    assert (groups["g59"].delivered, groups["g59"].failed) == (60, 1)
    assert len(groups) <= 20


async def test_counts_wait_while_the_memory_of_redis_is_full(bench: Bench) -> None:
    bench.deliver(3)
    await bench.redis.config_set("maxmemory", 1)
    try:
        await bench.flusher.flush()
        bench.deliver(2)
        await bench.flusher.flush()
    finally:
        await bench.redis.config_set("maxmemory", 0)
    await bench.flusher.flush()
    await bench.flusher.flush()
    counts = await bench.counts()
    assert (counts.statuses, counts.delivery.count) == ({"200": 5}, 5)
    assert len(await bench.entries()) == 5


async def test_the_last_worker_counts_messages_that_scripts_have_ended(bench: Bench) -> None:
    bench.deliver(1)
    await bench.flusher.flush()
    await a_lane(bench.redis).enqueue([a_message("once"), a_message("once")])
    await bench.flusher.finish()
    assert (await bench.counts()).outcomes["duplicate"] == 1


async def test_a_report_that_waits_and_a_new_one_are_both_written_at_the_end(bench: Bench) -> None:
    bench.deliver(1)
    bench.recording.fault = "after"
    await bench.flusher.flush()
    bench.deliver(1)
    await bench.flusher.finish()
    assert (await bench.counts()).statuses == {"200": 2}


async def test_many_lanes_take_turns_and_all_are_written_at_the_end(redis: Redis) -> None:
    names = [f"lane-{number}" for number in range(50)]
    recorders = {name: LaneRecorder(options(), "w1") for name in names}
    recording = Recording(redis, "relay", dict.fromkeys(names, RecordPolicy("w1", 0.0, 10)))
    clock = 0.0
    flusher = Flusher(recording, recorders, clock=lambda: clock)

    async def written() -> int:
        now = await Fleet(redis, "relay").now()
        recent = await read_recent(redis, "relay", names, now=now, minutes=3)
        return sum(counts.delivery.count for counts in recent.values())

    for recorder in recorders.values():
        recorder.answered([a_claim()], [Delivered()], time.monotonic(), 200)
    for expected in (20, 40, 50):
        clock += 1
        await flusher.flush()
        assert await written() == expected
    for recorder in recorders.values():
        recorder.answered([a_claim()], [Delivered()], time.monotonic(), 200)
    await flusher.finish()
    assert await written() == 100


async def test_a_message_that_was_due_later_has_waited_from_then_on(bench: Bench) -> None:
    bench.deliver(1, deliver_at=time.time() - 0.001)
    await bench.flusher.flush()
    found = (await bench.counts()).delivery.percentile(1)
    assert found is not None
    assert found < 2.9


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_lane_at_work_is_recorded(redis: Redis) -> None:
    lane = a_lane(redis, retry={"attempts": 2, "base": 0.001, "max": 0.001})
    provider = FakeProvider(options(retry={"attempts": 2, "base": 0.001, "max": 0.001}))
    provider.answers += [Retry("503: full", 503), Delivered("p-1"), Rejected("400: bad", 400)]
    bench = Bench(redis)
    await lane.enqueue([a_message("a", expires_at=time.time() + 600)])
    dispatcher = Dispatcher(lane, provider, on_outbox=lambda: None, recorder=bench.recorder)
    async with running(dispatcher), asyncio.timeout(120):
        await provider.until(lambda: len(provider.batches) == 2)
        await lane.enqueue([a_message("b")])
        dispatcher.notify()
        while await lane.size():
            await asyncio.sleep(0.005)
    await bench.flusher.flush()
    seen = [(entry.id, entry.outcome, entry.attempt, entry.provider_id) for entry in await bench.entries()]
    assert seen == [("a", "retry", 1, ""), ("a", "delivered", 2, "p-1"), ("b", "rejected", 1, "")]
    counts = await bench.counts()
    assert counts.outcomes["delivered"] == counts.outcomes["failed"] == counts.outcomes["retried"] == 1
    assert counts.request.count == 3
