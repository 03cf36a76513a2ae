"""The dispatcher on a real Redis, with an adapter that the test controls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.engine.claimer import ClaimTuning
from relay.engine.dispatcher import Dispatcher
from relay.engine.parts import Parts, Tuning
from relay.engine.settler import SettleTuning
from relay.errors import StoreError, TransportError
from relay.http.transport import ForbiddenAddress
from relay.message import Message
from relay.message.fan_out import split
from relay.outcome import Delivered, Isolate, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.store import dead
from relay.store.claims import Claimed, Hold
from relay.store.codec import Settled
from relay.store.groups import read_group
from relay.store.lane import Lane
from relay.store.overview import read_lane
from relay.store.settlement import Settlement
from relay.store.states import GroupState
from testing.builders import a_lane, a_message, options, plain_message
from testing.fake_provider import FakeProvider

IMPATIENT: dict[str, Any] = {"breaker": {"failures": 20, "cooldown": 0.02}, "timeout": 0.01}
"""Options of a lane that soon tries again after a refusal."""


def a_parts() -> Parts:
    """Parts that start again immediately."""
    return Parts(Tuning(first=0.001, longest=0.01))


def fails_once(owner: Any, name: str, error: BaseException | None = None) -> None:
    """Its method raises at the first call."""
    original, errors = getattr(owner, name), [error or ZeroDivisionError(name)]

    def method(*arguments: Any, **keywords: Any) -> Any:
        if errors:
            raise errors.pop()
        return original(*arguments, **keywords)

    setattr(owner, name, method)


@asynccontextmanager
async def serving(lane: Lane, provider: FakeProvider) -> AsyncIterator[Dispatcher]:
    """A running dispatcher."""
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None)) as dispatcher:
        yield dispatcher


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[Dispatcher]:
    task = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0)
    try:
        yield dispatcher
    finally:
        task.cancel()
        await asyncio.wait([task])


async def emptied(lane: Lane) -> None:
    """Return when the lane holds nothing."""
    await eventually(lane.size, 0)


def note_arrivals(provider: FakeProvider) -> list[float]:
    """Return a list that gets the time of each batch at the provider, in monotonic seconds."""
    arrivals: list[float] = []
    deliver = provider.deliver

    async def timed(batch: Sequence[Message]) -> Sequence[Outcome]:
        arrivals.append(time.monotonic())
        return await deliver(batch)

    provider.deliver = timed  # type: ignore[method-assign]
    return arrivals


def note_claims(lane: Lane) -> asyncio.Queue[Claimed]:
    """The replies to the claims of a lane."""
    replies, claim = asyncio.Queue[Claimed](), lane.claim

    async def noted(wanted: int, shared: int = 0) -> Claimed:
        reply = await claim(wanted, shared)
        replies.put_nowait(reply)
        return reply

    lane.claim = noted  # type: ignore[method-assign]
    return replies


async def eventually(read: Callable[[], Awaitable[object]], value: object) -> None:
    async with asyncio.timeout(120):
        while (await read()) != value:
            await asyncio.sleep(0.005)


async def letters(redis: Redis, lane: Lane) -> list[dead.DeadLetter]:
    return [letter async for letter in dead.read(redis, lane.keys.part("dead"))]


async def test_waiting_messages_are_delivered_in_order(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=1))
    await lane.enqueue([plain_message(str(number)) for number in range(500)])
    async with serving(lane, provider):
        await emptied(lane)
    assert provider.messages == [str(number) for number in range(500)]


async def test_no_more_requests_are_in_flight_than_allowed(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=7))
    provider.gate.clear()
    await lane.enqueue([plain_message(str(number)) for number in range(100)])
    async with serving(lane, provider):
        await provider.until(lambda: provider.in_flight == 7)
        provider.gate.set()
        await emptied(lane)
    assert provider.most_in_flight == 7
    assert len(provider.messages) == 100


async def test_a_slow_provider_hoards_nothing(redis: Redis) -> None:
    lane, other = a_lane(redis), a_lane(redis, worker="w2")
    provider = FakeProvider(options(concurrency=4))
    provider.gate.clear()
    await lane.enqueue([plain_message(str(number)) for number in range(10)])
    async with serving(lane, provider):
        await provider.until(lambda: provider.in_flight == 4)
        assert len((await other.claim(100)).claims) == 6


@pytest.mark.parametrize("batch_size", [1, 3])
async def test_a_lane_with_a_rate_sends_one_request_first_and_the_others_after_its_answer(
    redis: Redis, batch_size: int
) -> None:
    """The first request is late. Messages claimed with it would be late too, and exceed the limit then."""
    limits: dict[str, Any] = {"rate": "1000/s", "burst": 10}
    lane, other = a_lane(redis, **limits), a_lane(redis, worker="w2", **limits)
    provider = FakeProvider(options(**limits), batch_size=batch_size)
    provider.gate.clear()
    await lane.enqueue([plain_message(str(number)) for number in range(10)])
    tuning = ClaimTuning(cold_after=3600, first_answer=3600)
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, claiming=tuning)) as dispatcher:
        await provider.until(lambda: provider.in_flight == 1)
        assert len((await other.claim(100)).claims) == 10 - batch_size
        await other.release()
        provider.gate.set()
        await provider.until(lambda: len(provider.messages) > batch_size)
        dispatcher.wake()
        await emptied(lane)
    assert sorted(provider.messages, key=int) == [str(number) for number in range(10)]


async def test_a_lane_with_a_rate_goes_on_without_the_answer_to_its_first_request(redis: Redis) -> None:
    limits: dict[str, Any] = {"rate": "1000/s", "burst": 10}
    lane, provider = a_lane(redis, **limits), FakeProvider(options(**limits))
    provider.gate.clear()
    await lane.enqueue([plain_message(str(number)) for number in range(3)])
    tuning = ClaimTuning(first_answer=0)
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, claiming=tuning)):
        await provider.until(lambda: provider.in_flight == 3)
        provider.gate.set()
        await emptied(lane)


async def test_waiting_messages_share_a_batch(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(), batch_size=10)
    await lane.enqueue([plain_message(str(number)) for number in range(25)])
    async with serving(lane, provider):
        await emptied(lane)
    assert sorted(len(batch) for batch in provider.batches) == [5, 10, 10]


async def test_a_new_message_goes_out_immediately_while_others_are_in_flight_if_there_are_many_slots(
    redis: Redis,
) -> None:
    """A claim wants 100 messages at most: with 640 slots it would wait forever for a quarter of them."""
    tuning = ClaimTuning(linger=3600)
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=64), batch_size=10)
    provider.gate.clear()
    await lane.enqueue([plain_message("first")])
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, claiming=tuning)) as dispatcher:
        await provider.until(lambda: provider.in_flight == 1)
        await lane.enqueue([plain_message("second")])
        dispatcher.notify()
        await provider.until(lambda: provider.in_flight == 2)
        provider.gate.set()


async def test_a_settle_does_not_wait_for_more_outcomes_while_a_group_is_full(redis: Redis) -> None:
    limits: dict[str, Any] = {"groups": {"concurrency": 1}}
    lane, provider = a_lane(redis, **limits), FakeProvider(options(**limits))
    await lane.enqueue([plain_message(str(number), group="a") for number in range(5)])
    patient = SettleTuning(linger=3600, linger_if_full=0)
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, settling=patient)):
        await provider.until(lambda: len(provider.messages) == 5)
    assert provider.most_in_flight == 1


async def test_many_failures_are_settled_in_several_scripts(redis: Redis) -> None:
    lane, sizes = a_lane(redis, retry={"attempts": 1}), list[int]()
    provider = FakeProvider(options(concurrency=12, retry={"attempts": 1}))
    provider.answers.extend([Rejected("400")] * 12)
    provider.gate.clear()
    settle = lane.settle

    async def noted(settlements: Sequence[Settlement], hold: Hold | None = None) -> Settled:
        sizes.append(len(settlements))
        return await settle(settlements, hold)

    lane.settle = noted  # type: ignore[method-assign]
    await lane.enqueue([plain_message(str(number)) for number in range(12)])
    tuning = SettleTuning(most_failures=3)
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, settling=tuning)):
        await provider.until(lambda: provider.in_flight == 12)
        provider.gate.set()
        await emptied(lane)
    assert sum(sizes) == 12
    assert max(sizes) <= 3


async def test_messages_of_different_groups_do_not_share_a_batch(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(), batch_size=10)
    provider.group_by = lambda message: None if message.payload["text"] == "alone" else "rest"
    await lane.enqueue([plain_message(text) for text in ("a", "alone", "b", "alone", "c")])
    async with serving(lane, provider):
        await emptied(lane)
    assert sorted([message.payload["text"] for message in batch] for batch in provider.batches) == [
        ["a", "b", "c"],
        ["alone"],
        ["alone"],
    ]


async def test_a_bad_message_of_a_batch_does_not_fail_the_nine_good_ones(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(), batch_size=10)
    await lane.enqueue([plain_message(str(number)) for number in range(10)])
    provider.answers.append(Isolate("400"))
    provider.answers.extend([Rejected("400: bad channel", 400)])
    async with serving(lane, provider):
        await emptied(lane)
    assert [len(batch) for batch in provider.batches] == [10] + [1] * 10
    assert [letter.reason for letter in await letters(redis, lane)] == ["400: bad channel"]


async def test_a_message_that_the_adapter_refuses_is_never_sent(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options())
    provider.refuse = lambda message: Rejected("too large") if message.payload["text"] == "b" else None
    await lane.enqueue([plain_message(text) for text in "abc"])
    async with serving(lane, provider):
        await emptied(lane)
    assert provider.messages == ["a", "c"]
    assert [letter.reason for letter in await letters(redis, lane)] == ["too large"]


async def test_an_adapter_that_raises_or_miscounts_spends_no_attempt_and_no_message(redis: Redis) -> None:
    lane = a_lane(redis, **IMPATIENT)
    provider = FakeProvider(options(retry={"attempts": 9, "base": 0.001}))
    provider.answers.extend([ZeroDivisionError("bug"), [], TransportError("refused"), TimeoutError()])
    await lane.enqueue([plain_message("a")])
    async with serving(lane, provider):
        await emptied(lane)
    assert provider.messages == ["a"] * 5
    assert provider.batches[-1][0].attempts == 2, "only those without an answer count"
    assert await letters(redis, lane) == []


async def test_a_bug_costs_a_message_a_wait_and_the_others_nothing(redis: Redis) -> None:
    """Each place at which a loop of the lane can fail: nothing is lost, nothing is held forever."""
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=2))
    parts = a_parts()
    failing = [ZeroDivisionError("lease"), None, ZeroDivisionError("lease again")]

    def lease_valid_since(since: float) -> bool:
        if failing and (error := failing.pop()):
            raise error
        return True

    dispatcher = Dispatcher(
        lane, provider, on_outbox=lambda: None, parts=parts, lease_valid_since=lease_valid_since
    )
    fails_once(lane, "claim")
    fails_once(lane, "settle")
    await lane.enqueue([plain_message(str(number)) for number in range(20)])
    async with running(dispatcher):
        await emptied(lane)
    assert set(provider.messages) == {str(number) for number in range(20)}
    assert parts.failures["lane test"] >= 3


async def test_a_fan_out_that_fails_stops_no_other_and_is_made_again(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=10))
    fails_once(lane, "expand")
    for name in "ab":
        payload = json.dumps({"targets": [f"{name}{number}" for number in range(3)]}).encode()
        await lane.enqueue([split(a_message(payload_json=payload), "text", 10)])
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, parts=a_parts())):
        await emptied(lane)
    assert sorted(provider.messages) == ["a0", "a1", "a2", "b0", "b1", "b2"]


def count_calls(owner: Any, name: str) -> list[Any]:
    """Its method keeps its results in the list that is returned."""
    original, results = getattr(owner, name), []

    async def method(*arguments: Any, **keywords: Any) -> Any:
        results.append(await original(*arguments, **keywords))
        return results[-1]

    setattr(owner, name, method)
    return results


async def test_targets_of_a_fan_out_go_straight_into_flight(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=20))
    expanded, claimed = count_calls(lane, "expand"), count_calls(lane, "claim")
    payload = json.dumps({"targets": [f"t{number}" for number in range(20)]}).encode()
    await lane.enqueue([split(a_message(payload_json=payload), "text", 10)])
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, parts=a_parts())):
        await emptied(lane)
    assert sorted(provider.messages) == sorted(f"t{number}" for number in range(20))
    assert [len(each) for each in expanded] == [10, 10]
    assert sum(len(each.claims) for each in claimed) == 0


async def test_targets_whose_reply_was_lost_are_released_and_sent_once(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=10))
    expand, errors = lane.expand, [StoreError("the connection broke")]

    async def lossy(*arguments: Any) -> Any:
        expanded = await expand(*arguments)
        if errors:
            raise errors.pop()
        return expanded

    lane.expand = lossy  # type: ignore[method-assign,assignment]
    payload = json.dumps({"targets": [f"t{number}" for number in range(9)]}).encode()
    await lane.enqueue([split(a_message(payload_json=payload), "text", 5)])
    tuning = ClaimTuning(trouble_pause=0.01)
    dispatcher = Dispatcher(lane, provider, on_outbox=lambda: None, parts=a_parts(), claiming=tuning)
    async with running(dispatcher):
        await emptied(lane)
    assert sorted(provider.messages) == [f"t{number}" for number in range(9)]


async def test_an_outcome_that_cannot_be_settled_stops_no_other(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=10))
    parts = a_parts()
    settle, broken = lane.settle, 1

    async def poisoned(settlements: Sequence[Settlement], hold: Hold | None = None) -> Settled:
        nonlocal broken
        if broken and poison in [settlement.ticket for settlement in settlements]:
            broken -= len(settlements) == 1
            raise OverflowError("can't pack it")
        return await settle(settlements, hold)

    lane.settle = poisoned  # type: ignore[method-assign]
    provider.gate.clear()
    await lane.enqueue([plain_message(str(number)) for number in range(10)])
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, parts=parts)):
        await provider.until(lambda: provider.in_flight == 10)
        tickets: Any = await redis.hkeys(lane.keys.inflight("w1"))
        poison = sorted((ticket.decode() for ticket in tickets), key=int)[4]
        provider.gate.set()
        await emptied(lane)
    assert sorted(set(provider.messages)) == [str(number) for number in range(10)]
    assert len(provider.messages) == 11, "the poisoned one alone goes out again"


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        "delivered",
        Rejected(None),  # type: ignore[arg-type]
        Rejected("400", status="400"),  # type: ignore[arg-type]
        Rejected("400", status=10**30),
        Rejected("400", body="text"),  # type: ignore[arg-type]
        Retry("503", after="30"),  # type: ignore[arg-type]
        Retry("503", after=float("nan")),
        Unregistered("\udcff"),
        Isolate("a batch of one"),
    ],
    ids=repr,
)
async def test_a_malformed_outcome_spends_no_attempt_and_stops_no_lane(redis: Redis, outcome: Any) -> None:
    lane = a_lane(redis, **IMPATIENT)
    provider = FakeProvider(options())
    provider.answers.append([outcome])
    parts = a_parts()
    await lane.enqueue([plain_message("a")])
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, parts=parts)):
        await emptied(lane)
    assert provider.messages == ["a", "a"]
    assert provider.batches[-1][0].attempts == 0
    assert parts.failures == {}


@pytest.mark.parametrize("raised", [SystemExit(0), asyncio.CancelledError(), KeyError("x")], ids=repr)
@pytest.mark.parametrize("where", ["check", "group", "deliver"])
async def test_an_adapter_that_raises_anything_stops_no_lane(
    redis: Redis, where: str, raised: BaseException
) -> None:
    lane = a_lane(redis, **IMPATIENT)
    provider = FakeProvider(options(), batch_size=2)
    fails_once(provider, where, raised)
    parts = a_parts()
    await lane.enqueue([plain_message("a"), plain_message("b")])
    async with running(Dispatcher(lane, provider, on_outbox=lambda: None, parts=parts)):
        await emptied(lane)
    assert set(provider.messages) == {"a", "b"}
    assert await letters(redis, lane) == []
    assert parts.failures == {}


async def test_a_forbidden_address_is_a_rejection(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options())
    provider.answers.append(ForbiddenAddress("127.0.0.1 is a loopback address"))
    await lane.enqueue([plain_message("a")])
    async with serving(lane, provider):
        await emptied(lane)
    (letter,) = await letters(redis, lane)
    assert "127.0.0.1" in letter.reason


async def test_a_provider_that_hangs_is_cut_off_and_tried_again(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(timeout=0.05, retry={"base": 0.001}))
    provider.gate.clear()
    await lane.enqueue([plain_message("a")])
    async with serving(lane, provider):
        await provider.until(lambda: len(provider.batches) >= 2)
        provider.gate.set()
        await emptied(lane)
    assert provider.messages[-1] == "a"


async def test_a_throttled_provider_gets_nothing_more_until_the_hold_is_over(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=1))
    provider.answers.append(Throttled("429", after=0.5))
    arrivals = note_arrivals(provider)
    await lane.enqueue([plain_message(str(number)) for number in range(5)])
    async with serving(lane, provider):
        await emptied(lane)
    assert arrivals[1] - arrivals[0] >= 0.45
    assert provider.messages == ["0", "1", "2", "3", "4", "0"]
    assert all(batch[0].attempts == 0 for batch in provider.batches)


async def test_a_resumed_group_is_sent_by_the_worker_that_its_endpoint_throttled(redis: Redis) -> None:
    fields: dict[str, Any] = {"groups": {}, "concurrency": 1}
    lane, provider = a_lane(redis, **fields), FakeProvider(options(**fields))
    provider.answers.append(Throttled("429", after=3600))
    await lane.enqueue([plain_message(str(number), group="a") for number in range(3)])

    async def state() -> GroupState:
        return (await read_group(redis, lane.keys, "a", time.time())).state

    async with serving(lane, provider) as dispatcher:
        await eventually(state, GroupState.THROTTLED)
        assert provider.messages == ["0"]
        assert await lane.resume_group("a")
        dispatcher.wake()
        await emptied(lane)
    assert sorted(provider.messages) == ["0", "0", "1", "2"], "in any order"


async def test_a_throttled_target_delays_its_message_and_no_other(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=1))
    provider.answers.append(Throttled("429", after=0.5, scope="target"))
    arrivals = note_arrivals(provider)
    await lane.enqueue([plain_message(str(number)) for number in range(3)])
    async with serving(lane, provider):
        await emptied(lane)
    assert provider.messages == ["0", "1", "2", "0"]
    assert arrivals[3] - arrivals[0] >= 0.45
    assert all(batch[0].attempts == 0 for batch in provider.batches)


async def test_a_delayed_message_goes_out_although_nothing_else_arrives(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options())
    provider.answers.append(Throttled("429", after=0.2, scope="target"))
    provider.gate.clear()
    await lane.enqueue([plain_message("a")])
    async with serving(lane, provider):
        await provider.until(lambda: len(provider.batches) == 1)
        for _ in range(20):
            await lane.size()  # the claimer finds the lane empty meanwhile
        provider.gate.set()
        await emptied(lane)
    assert provider.messages == ["a", "a"]


async def test_a_wake_up_call_lifts_no_hold_that_redis_does_not_know_of_yet(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=1))
    provider.answers.append(Throttled("429", after=3))
    asked, told, settle = asyncio.Event(), asyncio.Event(), lane.settle

    async def late(settlements: Sequence[Settlement], hold: Hold | None = None) -> Settled:
        asked.set()
        await told.wait()
        return await settle(settlements, hold)

    monkeypatch.setattr(lane, "settle", late)
    await lane.enqueue([plain_message(str(number)) for number in range(3)])
    async with serving(lane, provider) as dispatcher:
        await asked.wait()
        dispatcher.wake()
        for _ in range(20):
            await lane.size()
        assert provider.messages == ["0"]
        told.set()
        await emptied(lane)
    assert provider.messages == ["0", "1", "2", "0"]


async def test_an_adapter_that_always_raises_holds_the_lane_and_spends_no_message(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(retry={"attempts": 2, "base": 0.001}))
    provider.answers.extend([ZeroDivisionError("bug")] * 100)
    await lane.enqueue([plain_message(str(number)) for number in range(50)])
    async with serving(lane, provider):
        async with asyncio.timeout(60):
            while (await read_lane(redis, "relay", "test", ["w1"], 0)).state != "faulty":
                await asyncio.sleep(0.005)
    assert await letters(redis, lane) == []
    assert await lane.size() == 50
    assert len(provider.batches) <= 70


async def test_a_message_that_breaks_the_adapter_becomes_a_dead_letter_and_the_others_are_sent(
    redis: Redis,
) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options())
    deliver = provider.deliver

    async def breaks(batch: Sequence[Message]) -> Sequence[Outcome]:
        if batch[0].payload["text"] == "0":
            raise KeyError("x")
        return await deliver(batch)

    provider.deliver = breaks  # type: ignore[method-assign]
    await lane.enqueue([plain_message(str(number)) for number in range(20)])
    async with serving(lane, provider):
        await emptied(lane)
    (letter,) = await letters(redis, lane)
    assert letter.reason == "the adapter failed: KeyError('x')"
    assert sorted(map(int, provider.messages)) == list(range(1, 20))


async def test_a_batch_that_is_refused_as_a_whole_is_tried_one_by_one(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(), batch_size=10)
    provider.answers.append([Unauthorised("403")] * 10)
    await lane.enqueue([plain_message(str(number)) for number in range(10)])
    async with serving(lane, provider):
        await emptied(lane)
    assert [len(batch) for batch in provider.batches] == [10] + [1] * 10
    assert await letters(redis, lane) == []


async def test_a_wrong_key_makes_no_dead_letters(redis: Redis) -> None:
    breaker = {"failures": 20, "cooldown": 0.02}
    lane = a_lane(redis, breaker=breaker, timeout=0.01)
    provider = FakeProvider(options(breaker=breaker))
    provider.answers.extend([Unauthorised("401")] * 3)
    await lane.enqueue([plain_message(str(number)) for number in range(5)])
    async with serving(lane, provider):
        await emptied(lane)
    assert await letters(redis, lane) == []
    assert sorted(set(provider.messages)) == ["0", "1", "2", "3", "4"]


async def test_retries_wait_in_redis_and_end_as_dead_letters(redis: Redis) -> None:
    retry = {"attempts": 3, "base": 0.001}
    lane = a_lane(redis)
    provider = FakeProvider(options(retry=retry))
    provider.answers.extend([Retry("503", 503, b"busy")] * 3)
    await lane.enqueue([a_message("order-17")])
    async with serving(lane, provider):
        await emptied(lane)
    (letter,) = await letters(redis, lane)
    assert (letter.attempts, letter.status, letter.body) == (3, 503, b"busy")


async def test_a_message_that_expires_between_claim_and_send_is_not_sent(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options())
    await lane.enqueue([a_message("a", expires_at=time.time() + 60)])
    provider.clock = lambda: time.time() + 120
    async with serving(lane, provider):
        await emptied(lane)
    assert provider.messages == []


async def test_draining_finishes_messages_in_flight_and_releases_the_rest(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options(concurrency=2, rate=None))
    provider.gate.clear()
    await lane.enqueue([plain_message(str(number)) for number in range(10)])
    async with serving(lane, provider) as dispatcher:
        await provider.until(lambda: provider.in_flight == 2)
        drained = asyncio.create_task(dispatcher.drain())
        await asyncio.sleep(0)
        provider.gate.set()
        async with asyncio.timeout(120):
            await drained
        assert await redis.hlen(lane.keys.inflight("w1")) == 0
        assert await lane.size() == 8
    assert provider.messages == ["0", "1"]


async def test_a_draining_worker_lets_others_have_the_places_of_a_group(redis: Redis) -> None:
    fields: dict[str, Any] = {"groups": {"concurrency": 1}}
    one, two = a_lane(redis, **fields), a_lane(redis, worker="w2", **fields)
    first, second = FakeProvider(options(**fields)), FakeProvider(options(**fields))
    answered = {"a0": asyncio.Event(), "b0": asyncio.Event()}

    async def deliver(batch: Sequence[Message]) -> Sequence[Outcome]:
        await answered[batch[0].payload["text"]].wait()
        return [Delivered()]

    first.deliver = deliver  # type: ignore[method-assign]
    await one.enqueue([plain_message(text, group=text[0]) for text in ("a0", "b0", "a1")])
    async with serving(one, first) as leaving:
        await eventually(lambda: one.in_flight(["w1"]), [2])
        claims = note_claims(two)
        async with serving(two, second) as staying:
            assert (await claims.get()).claims == []
            draining = asyncio.create_task(leaving.drain(staying.wake))
            answered["a0"].set()
            await second.until(lambda: second.messages == ["a1"])
            assert not draining.done()
            answered["b0"].set()
            await draining


async def test_a_claim_whose_answer_was_lost_is_released(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options())
    await lane.enqueue([plain_message("a"), plain_message("b")])
    claim, calls = lane.claim, 0

    async def lossy(wanted: int, shared: int = 0) -> Claimed:
        nonlocal calls
        calls += 1
        claimed = await claim(wanted, shared)
        if calls == 1:
            raise StoreError("the connection broke before the answer came")
        return claimed

    lane.claim = lossy  # type: ignore[method-assign]
    async with serving(lane, provider) as dispatcher:
        await eventually(lambda: asyncio.sleep(0, calls), 1)
        dispatcher.wake()
        await emptied(lane)
    assert provider.messages == ["a", "b"]


async def test_settling_goes_on_until_redis_is_back(redis: Redis) -> None:
    lane = a_lane(redis)
    provider = FakeProvider(options())
    await lane.enqueue([plain_message("a")])
    settle, calls = lane.settle, 0

    async def flaky(settlements: Sequence[Settlement], hold: Hold | None = None) -> Settled:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise StoreError("away")
        return await settle(settlements, hold)

    lane.settle = flaky  # type: ignore[method-assign]
    async with serving(lane, provider):
        await emptied(lane)
    assert provider.messages == ["a"]


async def test_the_rate_spreads_messages_evenly(redis: Redis) -> None:
    lane = a_lane(redis, rate="100/s", burst=10)
    provider = FakeProvider(options(rate="100/s", burst=10))
    arrivals = note_arrivals(provider)
    await lane.enqueue([plain_message(str(number)) for number in range(40)])
    started = time.monotonic()
    async with serving(lane, provider):
        await emptied(lane)
    for number, arrival in enumerate(arrivals, start=1):
        # Never more than burst + rate x time; from the start on, as a busy machine can only add to that time.
        assert number <= 10 + 100 * (arrival - started) + 1


async def test_a_message_claimed_before_the_lease_was_lost_is_not_sent(redis: Redis) -> None:
    """Somebody else may have sent it by now: it goes back, and out again under a new claim."""
    lane = a_lane(redis)
    # One request at a time and two slots, for messages that do not travel together: one of two has to wait.
    provider = FakeProvider(options(concurrency=1), batch_size=2)
    provider.group_by = lambda message: message.id
    held_since = 0.0
    dispatcher = Dispatcher(
        lane, provider, on_outbox=lambda: None, lease_valid_since=lambda since: since >= held_since
    )
    await lane.enqueue([plain_message(str(number)) for number in range(2)])
    provider.gate.clear()
    task = asyncio.create_task(dispatcher.run())
    await provider.until(lambda: len(provider.messages) == 1)
    held_since = time.monotonic()
    provider.gate.set()
    await emptied(lane)
    task.cancel()
    await asyncio.wait([task])
    assert provider.messages == ["0", "1"]
    claimed: Any = await redis.hget(lane.keys.part("control"), "claimed")
    assert int(claimed) == 3, "the second one was handed back first"
