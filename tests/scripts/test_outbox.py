"""Receipts and feedback on their way to the application: each arrives, once, in order, wherever it goes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from relay.courier import Courier, receipt
from relay.outcome import Unregistered
from relay.settlement import Settler
from relay.store import outbox as outbox_module
from relay.store.connect import open_client
from relay.store.lane import Lane
from relay.store.outbox import Outbox, Outboxes
from relay.store.replication import Replicas
from relay.store.scripting import Client
from tests.support.builders import a_lane, a_message, options

LISTS = [f"answers:{number}" for number in range(5)]


def a_courier(redis: Client) -> Courier:
    return Courier("relay:feedback", Outboxes(redis, "relay", ["test"]), Replicas(redis))


async def deliver(lane: Lane, numbers: range) -> None:
    """Messages that have ended, with their receipts spread over the lists."""
    await lane.enqueue([a_message(f"m{number}", reply_to=LISTS[number % 5]) for number in numbers])
    while claims := (await lane.claim(100)).claims:
        await lane.settle([(claim.ticket, claim.fence, "d", 1) for claim in claims])


async def arrived(redis: Client) -> dict[str, list[str]]:
    return {key: [json.loads(text)["id"] for text in await redis.lrange(key, 0, -1)] for key in LISTS}


def expected(numbers: range) -> dict[str, list[str]]:
    return {key: [f"m{n}" for n in numbers if n % 5 == place] for place, key in enumerate(LISTS)}


async def carry_all(courier: Courier) -> None:
    while await courier.carry("test"):
        pass


async def test_couriers_that_carry_at_once_lose_and_double_nothing(redis: Client) -> None:
    lane = a_lane(redis)
    couriers = [a_courier(redis) for _ in range(4)]
    await deliver(lane, range(300))
    await asyncio.gather(*(carry_all(courier) for courier in couriers), deliver(lane, range(300, 500)))
    await carry_all(couriers[0])
    assert await arrived(redis) == expected(range(500))
    assert await lane.letters() == 0


async def test_a_courier_that_dies_before_it_forgets_repeats_nothing(redis: Client) -> None:
    lane = a_lane(redis)
    outbox = Outbox(redis, "relay", "test")
    await deliver(lane, range(20))
    read = await outbox.read()
    # It carried some of them, and of one list only a part.
    for target in LISTS[:3]:
        mine = [
            (letter_id, msgspec.json.encode(receipt("test", msgspec.msgpack.decode(packed))))
            for letter_id, packed in read.letters
            if msgspec.msgpack.decode(packed)[1] == target
        ]
        assert await outbox.carry(target, "list", read.deadline, mine[:2]) == "ok"
    await carry_all(a_courier(redis))
    assert await arrived(redis) == expected(range(20))


async def test_a_frozen_courier_that_wakes_does_nothing(redis: Client) -> None:
    outbox = Outbox(redis, "relay", "test")
    await deliver(a_lane(redis), range(1))
    read = await outbox.read()
    assert await outbox.carry(LISTS[0], "list", 1, [(read.letters[0][0], b"{}")]) == "late"
    assert await redis.exists(LISTS[0]) == 0


async def test_what_a_failover_has_undone_is_not_forgotten(redis: Client) -> None:
    """The courier heard that the receipt came, from a master that was replaced in the same moment."""
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster a replica is waited for")
    outbox = Outbox(redis, "relay", "test")
    await deliver(a_lane(redis), range(1))
    ((letter, _),) = (read := await outbox.read()).letters
    assert await outbox.carry(LISTS[0], "list", read.deadline, [(letter, b"{}")]) == "ok"
    await redis.delete(LISTS[0], f"relay:{{{LISTS[0]}}}:carried")
    assert not await outbox.forget(letter, {LISTS[0]: letter})
    await carry_all(a_courier(redis))
    assert (await arrived(redis))[LISTS[0]] == ["m0"]


async def test_letters_that_a_failover_has_undone_are_not_carried(redis: Client) -> None:
    """Their messages end again, and what is noted of a later letter would stand in the way of theirs."""
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster a replica is waited for")
    outbox = Outbox(redis, "relay", "test")
    await deliver(a_lane(redis), range(1))
    read = await outbox.read()
    await redis.delete(outbox.key)
    assert await outbox.carry(LISTS[0], "list", read.deadline, [(read.letters[0][0], b"{}")]) == "stale"
    assert not await redis.exists(LISTS[0])


async def test_what_remembers_what_came_goes_when_it_is_not_needed_any_more(redis: Client) -> None:
    await deliver(a_lane(redis), range(5))
    await carry_all(a_courier(redis))
    for key in LISTS:
        assert 0 < await redis.ttl(f"relay:{{{key}}}:carried") <= 120


async def test_a_list_keeps_the_newest(redis: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "LIMIT", 3)
    await deliver(a_lane(redis), range(50))
    await carry_all(a_courier(redis))
    assert (await arrived(redis))[LISTS[0]] == ["m35", "m40", "m45"]


async def test_a_key_that_is_no_list_holds_up_nobody(redis: Client) -> None:
    await redis.set(LISTS[1], "mine")
    await deliver(a_lane(redis), range(10))
    courier = a_courier(redis)
    await carry_all(courier)
    assert await redis.get(LISTS[1]) == b"mine"
    assert await redis.lrange(LISTS[2], 0, -1)


async def test_feedback_comes_once(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message(f"m{number}") for number in range(150)])
    settler = Settler(options())
    while claims := (await lane.claim(50)).claims:
        gone = [Unregistered(f"token-{claim.message.id}", "410") for claim in claims]
        entries = [settler.settle(claim, end).entry for claim, end in zip(claims, gone, strict=True)]
        await lane.settle(entries)
    await asyncio.gather(*(carry_all(a_courier(redis)) for _ in range(3)))
    entries = await redis.xrange("relay:feedback")
    assert [fields[b"target"].decode() for _, fields in entries] == [f"token-m{n}" for n in range(150)]


COURIER = ("read", "carry", "carry", "forget", "die")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 7)),
        *(
            st.tuples(st.just(step), st.integers(0, 2))
            for step in ("read", "carry", "carry", "forget", "die")
        ),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_whatever_couriers_do_each_receipt_comes_once_and_in_order(
    server_url: str, steps: list[tuple[str, int]]
) -> None:
    """Three couriers, each at its own point of reading, carrying to one list after the other, forgetting."""

    async def run() -> None:
        redis = open_client(server_url)
        await redis.execute_command("FLUSHALL")
        lane, outbox, sent = a_lane(redis), Outbox(redis, "relay", "test"), 0
        hands: dict[int, tuple[int, str, dict[str, list[tuple[str, bytes]]], dict[str, str]]] = {}
        try:
            for step, number in steps:
                if step == "deliver":
                    await deliver(lane, range(sent, sent + number))
                    sent += number
                elif step == "read" and (read := await outbox.read(5)).letters:
                    by_target: dict[str, list[tuple[str, bytes]]] = {}
                    for letter_id, packed in read.letters:
                        letter = msgspec.msgpack.decode(packed)
                        text = msgspec.json.encode(receipt("test", letter))
                        by_target.setdefault(letter[1], []).append((letter_id, text))
                    hands[number] = read.deadline, read.letters[-1][0], by_target, {}
                elif step == "carry" and number in hands and hands[number][2]:
                    target, letters = hands[number][2].popitem()
                    hands[number][3][target] = letters[-1][0]
                    if await outbox.carry(target, "list", hands[number][0], letters) != "ok":
                        del hands[number]  # somebody else has carried them: it would read again
                elif step == "forget" and number in hands and not hands[number][2]:
                    _, last, _, came = hands.pop(number)
                    assert await outbox.forget(last, came)
                elif step == "die":
                    hands.pop(number, None)
            await carry_all(a_courier(redis))
            assert await arrived(redis) == expected(range(sent))
        finally:
            await redis.aclose()

    asyncio.run(run())


@given(
    counts=st.dictionaries(st.sampled_from(["delivered", "dead", "expired"]), st.integers(1, 9), min_size=1)
)
def test_the_receipt_of_a_fan_out_says_how_its_targets_ended(counts: dict[str, int]) -> None:
    letter: list[Any] = ["receipt", "answers", "a", "partial", "", 0, 1_000, counts]
    told = receipt("test", letter)
    assert told["targets"] == counts
    assert sum(int(part.split()[0]) for part in str(told["reason"]).split(", ")) == sum(counts.values())
