"""The cause of refusals, found by other messages, for every order of good and bad targets."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.outcome import Delivered, Outcome, Retry, Unauthorised, Unregistered
from relay.settings.options import ProviderOptions
from relay.store.claims import Claim
from relay.store.codec import Settled
from relay.store.lane import Lane
from relay.store.overview import read_lane
from testing.builders import a_lane, a_message, options
from testing.clock import set_clock, settable_clock
from testing.redis_server import RedisServer
from testing.streams import entries_of

COOLDOWN = 30.0
START = 1_000_000_000.0
MOST_ROUNDS = 3000


@dataclass
class Provider:
    """Refuses bad targets, and everything while the key is wrong."""

    valid: bool = True
    valid_requests: int | None = None
    """Requests until the key is revoked."""
    requests: list[str] = field(default_factory=list)

    def answer(self, text: str) -> Outcome:
        self.requests.append(text)
        target = text.partition("#")[0]
        if not self.valid or (self.valid_requests is not None and len(self.requests) > self.valid_requests):
            return Unauthorised("401", target=target)
        match text[:3]:
            case "bad":
                return Unauthorised("403 for this one", target=target)
            case "old":
                return Unauthorised("404 for this one", target=target, unregistered=True)
            case "gon":
                return Unregistered(target, "410")
        return Delivered()


@dataclass
class Scene:
    """Workers of one lane, a provider, and a clock that only this test moves."""

    redis: Redis
    lanes: Sequence[Lane]
    provider: Provider
    rng: random.Random
    most: int
    now: float = START
    in_flight: list[tuple[Lane, Claim, Outcome]] = field(default_factory=list)
    """The provider decides when a request is sent, and answers in any order."""
    ended: Counter[str] = field(default_factory=Counter)

    async def push(self, texts: Iterable[str], priority: str = "normal") -> None:
        await self.lanes[0].enqueue([a_message(text, priority=priority) for text in texts])

    async def settle(self, number: int) -> Settled | None:
        """Answer some of the requests in flight, in any order."""
        self.rng.shuffle(self.in_flight)
        some, self.in_flight = self.in_flight[:number], self.in_flight[number:]
        settled = None
        for lane in self.lanes:
            mine = [(claim, outcome) for owner, claim, outcome in some if owner is lane]
            if mine:
                policy = Policy(lane_options())
                entries = [policy.settle(claim, outcome) for claim, outcome in mine]
                settled = await lane.settle(entries, None)
        return settled

    async def run(self, seconds: float = 600.0) -> None:
        """Until nothing moves any more, or so much time has passed."""
        until = self.now + seconds
        for _ in range(MOST_ROUNDS):
            wait = 1000.0
            for lane in self.rng.sample(list(self.lanes), len(self.lanes)):
                claimed = await lane.claim(self.rng.randint(1, self.most))
                self.in_flight += [
                    (lane, claim, self.provider.answer(claim.message.id)) for claim in claimed.claims
                ]
                wait = min(wait, 1000.0 if claimed.wait is None else claimed.wait)
            if self.in_flight:
                await self.settle(self.rng.randint(1, len(self.in_flight)))
            elif wait >= 1000 or self.now + wait > until:
                return
            else:
                await self.clock(wait)
        pytest.fail("it never comes to rest")

    async def claim(self) -> None:
        for lane in self.lanes:
            claimed = await lane.claim(self.rng.randint(1, self.most))
            self.in_flight += [
                (lane, claim, self.provider.answer(claim.message.id)) for claim in claimed.claims
            ]

    async def die(self, lane: Lane) -> None:
        """A worker dies; the others release its messages."""
        self.in_flight = [entry for entry in self.in_flight if entry[0] is not lane]
        await self.lanes[0].recover(f"w{list(self.lanes).index(lane)}")

    async def clock(self, seconds: float) -> None:
        self.now += seconds + 0.001
        await set_clock(self.redis, int(self.now), round(self.now % 1 * 1e6))

    async def state(self) -> str:
        return (await read_lane(self.redis, "relay", "test", [], self.now)).state


def lane_options(**fields: Any) -> ProviderOptions:
    return options(**{"breaker": {"failures": 20, "cooldown": COOLDOWN}, **fields})


async def a_scene(redis: Redis, *, workers: int = 1, most: int = 4, seed: int = 0, **fields: Any) -> Scene:
    lanes = [
        a_lane(redis, worker=f"w{number}", breaker={"failures": 20, "cooldown": COOLDOWN}, **fields)
        for number in range(workers)
    ]
    scene = Scene(redis, lanes, Provider(), random.Random(seed), most)
    await scene.clock(0)
    return scene


async def outbox_entries(redis: Redis, lane: Lane) -> list[list[Any]]:
    return [
        msgspec.msgpack.decode(fields[b"letter"])
        for _, fields in await entries_of(redis, lane.keys.part("outbox"))
    ]


async def ends(redis: Redis, lane: Lane) -> dict[str, list[str]]:
    """The ends of messages: ids of dead letters, targets on their way to the feedback stream."""
    dead = [
        msgspec.msgpack.decode(fields[b"record"][2 + int.from_bytes(fields[b"record"][:2], "big") :])[0]
        for _, fields in await entries_of(redis, lane.keys.part("dead"))
    ]
    return {
        "dead": dead,
        "feedback": [entry[1] for entry in await outbox_entries(redis, lane) if entry[0] == "feedback"],
    }


def run(server: RedisServer, scenario: Callable[[Redis], Awaitable[None]]) -> None:
    """Play one example on an empty database, whose clock the scenario moves."""

    async def play() -> None:
        async with Redis.from_url(server.url, protocol=2) as redis:
            await redis.flushall()
            with settable_clock():
                await scenario(redis)

    asyncio.run(play())


KINDS = st.sampled_from(["good", "good", "good", "bad", "old"])


@settings(max_examples=60)
@given(
    kinds=st.lists(KINDS, min_size=1, max_size=25),
    shared=st.integers(1, 6),
    workers=st.integers(1, 3),
    most=st.sampled_from([1, 2, 8, 64]),
    order=st.sampled_from(["fifo", "lifo"]),
    seed=st.integers(0, 2**32),
)
def test_good_targets_are_all_served_among_any_bad_ones(
    newest_redis_server: RedisServer,
    kinds: list[str],
    shared: int,
    workers: int,
    most: int,
    order: str,
    seed: int,
) -> None:
    async def scenario(redis: Redis) -> None:
        scene = await a_scene(redis, workers=workers, most=most, seed=seed, order=order)
        await scene.push(f"{kind}{number % shared}#{number}" for number, kind in enumerate(kinds))
        await scene.run()
        requests = Counter(scene.provider.requests)
        good = [text for text in requests if text.startswith("good")]
        assert len(good) == kinds.count("good")
        assert all(requests[text] == 1 for text in good), "a good message was sent twice"
        ended = await ends(redis, scene.lanes[0])
        assert not any(text.startswith("good") for text in ended["dead"])
        # One more message is proof enough for all that are left.
        for number in range(3):
            await scene.push([f"good#last{number}"])
            await scene.run()
        ended = await ends(redis, scene.lanes[0])
        assert sorted(ended["dead"]) == sorted(t for t in requests if t.startswith("bad"))
        assert len(ended["feedback"]) == kinds.count("old")
        assert await scene.state() == "running"
        assert await scene.lanes[0].size() == 0
        assert not await redis.exists(scene.lanes[0].keys.part("suspects"))

    run(newest_redis_server, scenario)


@settings(max_examples=30)
@given(
    number=st.integers(1, 12),
    shared=st.integers(1, 12),
    workers=st.integers(1, 3),
    most=st.sampled_from([1, 2, 8, 64]),
    seed=st.integers(0, 2**32),
)
def test_wrong_credentials_spend_no_message(
    newest_redis_server: RedisServer, number: int, shared: int, workers: int, most: int, seed: int
) -> None:
    async def scenario(redis: Redis) -> None:
        scene = await a_scene(redis, workers=workers, most=most, seed=seed)
        scene.provider.valid = False
        await scene.push(f"good{n % shared}#{n}" for n in range(number))
        await scene.run(10 * COOLDOWN)
        assert await scene.state() == "unauthorised"
        assert await scene.lanes[0].size() == number
        assert len(scene.provider.requests) <= workers * most + 40
        scene.provider.valid = True
        await scene.run()
        assert await scene.lanes[0].size() == 0
        assert await ends(redis, scene.lanes[0]) == {"dead": [], "feedback": []}
        assert await scene.state() == "running"

    run(newest_redis_server, scenario)


@settings(max_examples=40)
@given(
    number=st.integers(1, 80),
    valid_requests=st.integers(1, 70),
    workers=st.integers(1, 3),
    most=st.sampled_from([2, 8, 64]),
    seed=st.integers(0, 2**32),
)
def test_a_key_that_is_revoked_while_requests_are_under_way_spends_no_message(
    newest_redis_server: RedisServer, number: int, valid_requests: int, workers: int, most: int, seed: int
) -> None:
    async def scenario(redis: Redis) -> None:
        scene = await a_scene(redis, workers=workers, most=most, seed=seed)
        scene.provider.valid_requests = valid_requests
        messages = valid_requests + 1 + number
        await scene.push(f"good{n}#{n}" for n in range(messages))
        await scene.run(5 * COOLDOWN)
        assert await scene.state() == "unauthorised"
        assert await ends(redis, scene.lanes[0]) == {"dead": [], "feedback": []}
        assert await scene.lanes[0].size() == messages - valid_requests
        await scene.lanes[0].resume()
        await scene.run(5 * COOLDOWN)
        scene.provider.valid_requests = None
        await scene.run()
        assert await scene.lanes[0].size() == 0
        assert await ends(redis, scene.lanes[0]) == {"dead": [], "feedback": []}
        assert await scene.state() == "running"

    run(newest_redis_server, scenario)


async def test_a_resume_with_a_wrong_key_spends_no_message(scene: Scene) -> None:
    scene.provider.valid = False
    await scene.push(f"good{number}" for number in range(6))
    for _ in range(3):
        await scene.run(2 * COOLDOWN)
        assert await scene.state() == "unauthorised"
        await scene.lanes[0].resume()
    scene.provider.valid = True
    await scene.run()
    assert await ends(scene.redis, scene.lanes[0]) == {"dead": [], "feedback": []}
    assert await scene.lanes[0].size() == 0


@settings(max_examples=40)
@given(
    plan=st.lists(
        st.tuples(
            KINDS,
            st.sampled_from(["", "", "k1", "k2"]),
            st.sampled_from(["", "", "c1", "c2"]),
            st.sampled_from(["high", "normal", "normal", "low"]),
        ),
        min_size=1,
        max_size=20,
    ),
    deaths=st.integers(0, 2),
    most=st.sampled_from([1, 2, 8, 64]),
    order=st.sampled_from(["fifo", "lifo"]),
    seed=st.integers(0, 2**32),
)
def test_keys_priorities_and_dead_workers_lose_no_message_and_leave_nothing_behind(
    newest_redis_server: RedisServer,
    plan: list[tuple[str, str, str, str]],
    deaths: int,
    most: int,
    order: str,
    seed: int,
) -> None:
    async def scenario(redis: Redis) -> None:
        scene = await a_scene(redis, workers=2, most=most, seed=seed, order=order)
        lane = scene.lanes[0]
        collapsed = 0
        for number, (kind, key, collapse, priority) in enumerate(plan):
            message = a_message(
                f"{kind}{number}",
                priority=priority,
                ordering_key=key,
                collapse_key=collapse,
                reply_to="receipts:1",
            )
            collapsed += (await lane.enqueue([message])).collapsed
        for _ in range(deaths):
            await scene.claim()
            await scene.settle(scene.rng.randint(0, len(scene.in_flight)))
            await scene.die(scene.rng.choice(scene.lanes))
        await scene.run()
        # Each bad message of a key may need a delivery of its own.
        for number in range(2 * len(plan)):
            if await lane.size():
                await scene.push([f"good#last{number}"])
                await scene.run()
        receipts = Counter(entry[3] for entry in await outbox_entries(redis, lane) if entry[0] == "receipt")
        assert sum(receipts.values()) == len(plan)
        assert receipts["collapsed"] == collapsed
        assert set(receipts) <= {"collapsed", "delivered", "rejected", "unregistered"}
        keys: Any = await redis.keys("relay:{test}*")
        left = {key.decode() for key in keys}
        assert left <= {lane.keys.part(part) for part in ("control", "outbox", "dead", "journal")}

    run(newest_redis_server, scenario)


@pytest.fixture
async def scene(redis: Redis) -> AsyncIterator[Scene]:
    with settable_clock():
        yield await a_scene(redis, most=1)


async def test_a_probe_is_never_the_same_message_twice_in_a_row_if_another_waits(scene: Scene) -> None:
    scene.provider.valid = False
    await scene.push(["good1#1"], priority="high")
    await scene.push(["good2#2", "good3#3", "good4#4"])
    await scene.run(10 * COOLDOWN)
    requests = scene.provider.requests
    assert len(requests) > 4
    assert all(one != other for one, other in pairwise(requests))


async def test_a_refused_subscription_ends_alone_and_the_others_are_served(scene: Scene) -> None:
    await scene.push(["bad#1", *(f"good{number}" for number in range(50))])
    await scene.run(1.0)
    assert (await ends(scene.redis, scene.lanes[0]))["dead"] == ["bad#1"]
    assert len(scene.provider.requests) == 52


async def test_a_refused_message_among_others_of_one_claim_ends_alone(scene: Scene) -> None:
    scene.most = 64
    await scene.push(["bad#1", *(f"good{number}" for number in range(50))])
    await scene.run(COOLDOWN / 2)
    assert (await ends(scene.redis, scene.lanes[0]))["dead"] == ["bad#1"]
    assert await scene.lanes[0].size() == 0


async def test_twenty_targets_that_are_gone_hold_the_lane_before_the_application_learns_of_one(
    scene: Scene,
) -> None:
    await scene.push(f"gone{number}" for number in range(30))
    await scene.run(COOLDOWN / 2)
    assert await scene.state() == "unregistered"
    assert await ends(scene.redis, scene.lanes[0]) == {"dead": [], "feedback": []}
    await scene.lanes[0].resume()
    await scene.run(COOLDOWN / 2)
    assert len((await ends(scene.redis, scene.lanes[0]))["feedback"]) >= 20


async def test_targets_that_come_back_are_delivered_after_a_resume(scene: Scene) -> None:
    await scene.push(f"gone{number}" for number in range(20))
    await scene.run(COOLDOWN / 2)
    assert await scene.state() == "unregistered"
    scene.provider.answer = lambda text: Delivered()  # type: ignore[method-assign]
    await scene.lanes[0].resume()
    await scene.run(COOLDOWN / 2)
    assert await ends(scene.redis, scene.lanes[0]) == {"dead": [], "feedback": []}
    assert await scene.lanes[0].size() == 0


async def test_a_few_targets_that_are_gone_are_reported_within_seconds(scene: Scene) -> None:
    await scene.push(f"gone{number}" for number in range(3))
    await scene.run(5.0)
    assert len((await ends(scene.redis, scene.lanes[0]))["feedback"]) == 3
    assert await scene.state() == "running"
    assert await scene.lanes[0].size() == 0


async def test_a_delivery_reports_the_targets_that_were_gone_before_it(scene: Scene) -> None:
    await scene.push(
        [*(f"gone{number}" for number in range(19)), "good", *(f"gone{n}" for n in range(19, 38))]
    )
    await scene.run(5.0)
    assert len((await ends(scene.redis, scene.lanes[0]))["feedback"]) == 38


async def test_a_refusal_by_a_provider_that_then_fails_is_decided_when_it_is_back(scene: Scene) -> None:
    await scene.push(["bad#1", *(f"good{number}" for number in range(30))])
    answers, down = scene.provider.answer, [True]
    scene.provider.answer = (  # type: ignore[method-assign]
        lambda text: Retry("503", after=1.0) if down[0] and text.startswith("good") else answers(text)
    )
    await scene.run(COOLDOWN)
    down[0] = False
    await scene.run()
    assert (await ends(scene.redis, scene.lanes[0]))["dead"] == ["bad#1"]
    assert await scene.lanes[0].size() == 0


@pytest.mark.parametrize(("text", "requests"), [("good{}", 3), ("good1#{}", 10)], ids=["targets", "messages"])
async def test_three_refused_targets_or_ten_refused_messages_of_one_hold_the_lane(
    scene: Scene, text: str, requests: int
) -> None:
    scene.provider.valid = False
    await scene.push(text.format(number) for number in range(20))
    await scene.run(COOLDOWN / 2)
    assert await scene.state() == "unauthorised"
    assert len(scene.provider.requests) == requests


async def test_a_refused_message_holds_the_lane_if_no_other_one_can_tell_more(scene: Scene) -> None:
    await scene.push(["bad#1"])
    await scene.run(COOLDOWN / 2)
    assert await scene.state() == "unauthorised"
    assert len(scene.provider.requests) == 1
    await scene.push(["good#2"])
    await scene.run(COOLDOWN / 2)
    assert await scene.state() == "running"
    assert (await ends(scene.redis, scene.lanes[0]))["dead"] == ["bad#1"]


async def test_a_message_ends_after_three_more_tries_even_if_new_ones_are_refused_each_time(
    scene: Scene,
) -> None:
    requests = scene.provider.requests
    await scene.push(["bad-oldest"])
    await scene.claim()
    await scene.settle(1)
    await scene.push(["good0"])
    await scene.claim()
    await scene.settle(1)
    for number in range(1, 8):
        if not await scene.lanes[0].size():
            break
        before = len(requests)
        await scene.push([f"bad{number}"], priority="high")
        await scene.push([f"good{number}"])
        while f"good{number}" not in requests[before:]:
            await scene.claim()
            await scene.settle(1)
    assert requests.count("bad-oldest") == 4
    assert "bad-oldest" in (await ends(scene.redis, scene.lanes[0]))["dead"]


@pytest.mark.parametrize(("good", "state"), [(3, "running"), (1, "unregistered")])
async def test_a_share_of_targets_that_are_gone_holds_the_lane(redis: Redis, good: int, state: str) -> None:
    with settable_clock():
        scene = await a_scene(redis, most=1, unregistered_share=0.5)
        for number in range(25):
            await scene.push([f"gone{number}", *(f"good{number}-{n}" for n in range(good)), f"gone{number}b"])
        await scene.run(1.0)
        assert await scene.state() == state
