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

from relay.engine.forwarder import Forwarder, ForwardTuning
from relay.engine.policy import Policy
from relay.errors import StoreError
from relay.outcome import Delivered, Outcome, Rejected, Retry, Unregistered
from relay.redis_client.client import Client
from relay.redis_client.connect import open_client
from relay.redis_client.replication import Replicas
from relay.store.lane import Lane
from relay.store.outbox import Outbox, Outboxes
from relay.store.outbox_entries import ReceiptEntry, decode, receipt
from relay.store.overview import read_lane
from relay.store.settlement import DeliveredOne
from testing.builders import a_lane, a_message, options
from testing.streams import entries_of

LISTS = [f"answers:{number}" for number in range(5)]


def a_forwarder(redis: Client, **limits: int) -> Forwarder:
    return Forwarder(Outboxes(redis, "relay", ["test"], **limits), Replicas(redis))


async def deliver(lane: Lane, numbers: range) -> None:
    """Messages that have ended, with their receipts spread over the lists."""
    await lane.enqueue([a_message(f"m{number}", reply_to=LISTS[number % 5]) for number in numbers])
    while claims := (await lane.claim(100)).claims:
        await lane.settle([DeliveredOne(claim.ticket, claim.fencing_token, 1) for claim in claims])


async def arrived(redis: Client) -> dict[str, list[str]]:
    return {key: [json.loads(text)["id"] for text in await redis.lrange(key, 0, -1)] for key in LISTS}


def expected(numbers: range) -> dict[str, list[str]]:
    return {key: [f"m{n}" for n in numbers if n % 5 == place] for place, key in enumerate(LISTS)}


async def forward_all(forwarder: Forwarder) -> None:
    while await forwarder.forward("test"):
        pass


@pytest.mark.parametrize(
    ("outcome", "status", "provider_id"),
    [
        (Delivered("projects/p/messages/1"), None, "projects/p/messages/1"),
        (Delivered("two\nlines"), None, "two lines"),
        (Delivered(), None, None),
        (Rejected("no", 400), 400, None),
        (Retry("503", 503), 503, None),
        (Retry("reset"), None, None),
        (Unregistered("token", "gone", 410), 410, None),
    ],
)
async def test_a_receipt_has_the_status_and_the_id_of_the_provider_if_they_are_known(
    redis: Client, outcome: Outcome, status: int | None, provider_id: str | None
) -> None:
    fields: dict[str, Any] = {"unregistered_share": 0.0, "retry": {"attempts": 1}}
    lane, policy = a_lane(redis, **fields), Policy(options(**fields))
    await lane.enqueue([a_message("m", reply_to=LISTS[0])])
    await lane.settle([policy.settle(claim, outcome) for claim in (await lane.claim(1)).claims])
    await forward_all(a_forwarder(redis))
    found = json.loads((await redis.lrange(LISTS[0], 0, -1))[0])
    assert (found.get("status"), found.get("provider_id")) == (status, provider_id)
    assert found["provider"] == "test"


async def test_concurrent_forwarders_lose_and_repeat_nothing(redis: Client) -> None:
    lane = a_lane(redis, unregistered_share=0.0)
    forwarders = [a_forwarder(redis) for _ in range(4)]
    await deliver(lane, range(300))
    await asyncio.gather(
        *(forward_all(forwarder) for forwarder in forwarders), deliver(lane, range(300, 500))
    )
    await forward_all(forwarders[0])
    assert await arrived(redis) == expected(range(500))
    assert await lane.outbox_length() == 0


async def test_a_forwarder_that_dies_before_it_forgets_repeats_nothing(redis: Client) -> None:
    lane = a_lane(redis, unregistered_share=0.0)
    outbox = Outbox(redis, "relay", "test")
    await deliver(lane, range(20))
    found = await outbox.read()
    # It forwarded some of them, and of one list only a part.
    for target in LISTS[:3]:
        mine = [
            (entry_id, msgspec.json.encode(receipt("test", entry)))
            for entry_id, packed in found.entries
            if isinstance(entry := decode(packed), ReceiptEntry) and entry.reply_to == target
        ]
        assert await outbox.forward(target, "list", found.deadline, mine[:2]) == "ok"
    await forward_all(a_forwarder(redis))
    assert await arrived(redis) == expected(range(20))


async def test_a_frozen_forwarder_that_wakes_does_nothing(redis: Client) -> None:
    outbox = Outbox(redis, "relay", "test")
    await deliver(a_lane(redis, unregistered_share=0.0), range(1))
    found = await outbox.read()
    assert await outbox.forward(LISTS[0], "list", 1, [(found.entries[0][0], b"{}")]) == "late"
    assert await redis.exists(LISTS[0]) == 0


async def test_entries_that_a_failover_restored_are_not_forgotten(redis: Client) -> None:
    """The forwarder got a confirmation from a master that was replaced in the same moment."""
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster a replica is waited for")
    outbox = Outbox(redis, "relay", "test")
    await deliver(a_lane(redis, unregistered_share=0.0), range(1))
    ((entry, _),) = (found := await outbox.read()).entries
    assert await outbox.forward(LISTS[0], "list", found.deadline, [(entry, b"{}")]) == "ok"
    await redis.delete(LISTS[0], f"relay:{{{LISTS[0]}}}:forwarded")
    assert not await outbox.forget(entry, {LISTS[0]: entry})
    await forward_all(a_forwarder(redis))
    assert (await arrived(redis))[LISTS[0]] == ["m0"]


async def test_entries_that_a_failover_undid_are_not_forwarded(redis: Client) -> None:
    """Their messages end again, and the recorded id of a later entry would block their receipts."""
    if not isinstance(redis, Redis):
        pytest.skip("in a cluster a replica is waited for")
    outbox = Outbox(redis, "relay", "test")
    await deliver(a_lane(redis, unregistered_share=0.0), range(1))
    found = await outbox.read()
    await redis.delete(outbox.key)
    assert await outbox.forward(LISTS[0], "list", found.deadline, [(found.entries[0][0], b"{}")]) == "stale"
    assert not await redis.exists(LISTS[0])


async def test_the_mark_of_forwarded_entries_expires(redis: Client) -> None:
    await deliver(a_lane(redis, unregistered_share=0.0), range(5))
    await forward_all(a_forwarder(redis))
    for key in LISTS:
        assert 0 < await redis.ttl(f"relay:{{{key}}}:forwarded") <= 120


async def test_a_list_keeps_the_newest(redis: Client) -> None:
    await deliver(a_lane(redis, unregistered_share=0.0), range(50))
    await forward_all(a_forwarder(redis, longest_list=3))
    assert (await arrived(redis))[LISTS[0]] == ["m35", "m40", "m45"]


async def test_a_key_that_is_no_list_delays_no_other(redis: Client) -> None:
    await redis.set(LISTS[1], "mine")
    await deliver(a_lane(redis, unregistered_share=0.0), range(10))
    forwarder = a_forwarder(redis)
    await forward_all(forwarder)
    assert await redis.get(LISTS[1]) == b"mine"
    assert await redis.lrange(LISTS[2], 0, -1)


async def test_a_list_of_another_program_is_never_trimmed(redis: Client) -> None:
    foreign = [b"task", b'{"id": 7}', b"[" * 99, b"\xff", b"x" * 70_000]
    await redis.rpush(LISTS[0], *foreign)
    await deliver(a_lane(redis, unregistered_share=0.0), range(25))
    await forward_all(a_forwarder(redis, longest_list=3))
    assert await redis.lrange(LISTS[0], 0, 4) == foreign
    assert await redis.llen(LISTS[0]) == 10


async def test_receipts_in_front_of_foreign_entries_are_trimmed_alone(redis: Client) -> None:
    await deliver(a_lane(redis, unregistered_share=0.0), range(10))
    await forward_all(a_forwarder(redis, longest_list=3))
    await redis.rpush(LISTS[0], b"task")
    await deliver(a_lane(redis, unregistered_share=0.0), range(10, 60))
    await forward_all(a_forwarder(redis, longest_list=3))
    assert await redis.lindex(LISTS[0], 0) == b"task"


RECEIPT = msgspec.msgpack.encode(["receipt", "answers:1", "m", "delivered", "", 1, 2])
UNREADABLE: dict[str, Any] = {
    "without the field": {b"x": b"1", b"y": b"2"},
    "an empty field": {b"letter": b""},
    "text": {b"letter": b"hello"},
    "broken MessagePack": {b"letter": b"\x97\xa7receipt\xa9ans"},
    "no array": {b"letter": msgspec.msgpack.encode({"receipt": 1})},
    "an unknown kind": {b"letter": msgspec.msgpack.encode(["farewell", "answers:1", "m"])},
    "too few fields": {b"letter": msgspec.msgpack.encode(["receipt", "answers:1", "m", "delivered"])},
    "a wrong type": {b"letter": msgspec.msgpack.encode(["receipt", 5, "m", "delivered", "", 1, 2])},
    "feedback without an id": {b"letter": msgspec.msgpack.encode(["feedback", "token", "410", 0])},
    "bad UTF-8": {b"letter": b"\x95\xa8feedback\xa1\xff\xa1r\x00\xa1i"},
    "deep nesting": {b"letter": b"\x98" + RECEIPT[1:] + b"\x91" * 100_000},
    "much": {b"letter": b"z" * 1_000_000},
}


async def test_an_entry_that_cannot_be_read_is_set_aside_and_the_rest_goes_on(redis: Client) -> None:
    lane, outbox = a_lane(redis, unregistered_share=0.0), Outbox(redis, "relay", "test")
    for number, fields in enumerate(UNREADABLE.values()):
        await redis.xadd(outbox.key, fields)
        await deliver(lane, range(10 * number, 10 * number + 10))
    await asyncio.gather(*(forward_all(a_forwarder(redis)) for _ in range(2)))
    assert await arrived(redis) == expected(range(10 * len(UNREADABLE)))
    assert await redis.xlen(outbox.key) == 0
    entries = [fields for _, fields in await entries_of(redis, outbox.unreadable)]
    assert len(entries) == len(UNREADABLE)
    assert entries[0][b"fields"] == b"x 1 y 2"
    assert max(len(fields[b"fields"]) for fields in entries) == 4096
    assert await lost(redis) == len(UNREADABLE)


async def test_something_else_in_place_of_the_unreadable_stream_stops_nothing(redis: Client) -> None:
    outbox = Outbox(redis, "relay", "test")
    await redis.set(outbox.unreadable, "mine")
    await redis.xadd(outbox.key, {"x": "y"})
    await deliver(a_lane(redis, unregistered_share=0.0), range(5))
    await forward_all(a_forwarder(redis))
    assert await arrived(redis) == expected(range(5))


async def lost(redis: Client) -> int:
    return (await read_lane(redis, "relay", "test", [], 0.0)).outbox_lost


async def as_a_user(redis: Client, server_url: str, *rules: str) -> Client:
    words = ("ACL", "SETUSER", "relay", "reset", "on", ">word", "+@all", "&*", *rules)
    if isinstance(redis, Redis):
        await redis.execute_command(*words)
    else:
        for node in redis.get_primaries():
            await node.execute_command(*words)
    return open_client(server_url.replace("//", "//relay:word@"))


async def test_a_list_without_the_right_to_write_it_costs_its_own_receipts_alone(
    redis: Client, server_url: str
) -> None:
    lane = a_lane(redis, unregistered_share=0.0)
    await deliver(lane, range(20))
    await lane.enqueue([a_message("gone", reply_to=LISTS[2])])
    (claim,) = (await lane.claim(1)).claims
    await lane.settle([Policy(options()).settle(claim, Unregistered("token", "410"))])
    user = await as_a_user(redis, server_url, "~relay:*", *(f"~{key}" for key in LISTS if key != LISTS[1]))
    try:
        assert (await read_lane(user, "relay", "test", [], 0.0)).outbox == 22
        await asyncio.gather(*(forward_all(a_forwarder(user)) for _ in range(2)))
    finally:
        await user.aclose()
    assert await arrived(redis) == {
        **expected(range(20)),
        LISTS[1]: [],
        LISTS[2]: [*expected(range(20))[LISTS[2]], "gone"],
    }
    assert await redis.xlen("relay:feedback") == 1
    assert (await read_lane(redis, "relay", "test", [], 0.0)).outbox == 0
    assert await lost(redis) == 4


async def test_a_user_that_may_run_no_scripts_loses_nothing(redis: Client, server_url: str) -> None:
    await deliver(a_lane(redis, unregistered_share=0.0), range(5))
    user = await as_a_user(redis, server_url, "~*", "-rpush")
    try:
        with pytest.raises(StoreError):
            await forward_all(a_forwarder(user))
        assert await lost(redis) == 0
        await as_a_user(redis, server_url, "~*", "+rpush")
        await forward_all(a_forwarder(redis))
    finally:
        await user.aclose()
    assert await arrived(redis) == expected(range(5))


@pytest.mark.parametrize("target", ["odd}brace", "odd{}braces", "odd{brace", "{odd}{braces}"])
async def test_a_list_with_odd_braces_in_its_name_delays_no_other(redis: Client, target: str) -> None:
    """In a cluster relay's own key cannot be in the slot of each of them."""
    lane = a_lane(redis, unregistered_share=0.0)
    await lane.enqueue([a_message("odd", reply_to=target)])
    await deliver(lane, range(5))
    await forward_all(a_forwarder(redis))
    assert await arrived(redis) == expected(range(5))
    assert await redis.llen(target) + await lost(redis) == 1


async def test_something_else_in_place_of_the_bookkeeping_loses_no_receipt(redis: Client) -> None:
    for key in LISTS:
        await redis.set(f"relay:{{{key}}}:forwarded", "mine")
    await deliver(a_lane(redis, unregistered_share=0.0), range(10))
    await forward_all(a_forwarder(redis))
    assert await arrived(redis) == expected(range(10))
    await redis.hset(f"relay:{{{LISTS[0]}}}:forwarded", "test", "nonsense")
    await deliver(a_lane(redis, unregistered_share=0.0), range(10, 20))
    await forward_all(a_forwarder(redis))
    assert await arrived(redis) == expected(range(20))


async def test_an_outbox_that_is_no_stream_hides_no_other(redis: Client) -> None:
    await redis.set("relay:{broken}:outbox", "mine")
    await deliver(a_lane(redis, unregistered_share=0.0), range(5))
    outboxes = Outboxes(redis, "relay", ["broken", "empty", "test"])
    assert await outboxes.filled() == ["broken", "test"]


async def test_an_outbox_that_never_empties_holds_up_no_other(redis: Client) -> None:
    full, other = a_lane(redis, name="full"), a_lane(redis, name="other")
    outboxes = Outboxes(redis, "relay", ["full", "other"])
    forwarder = Forwarder(outboxes, Replicas(redis))
    entry = msgspec.msgpack.encode(["receipt", LISTS[0], "m", "delivered", "", 1, 2])

    arrived = asyncio.Event()

    async def fill() -> None:
        # Not cancelled: in a cluster the client may swallow that.
        while not arrived.is_set():
            async with redis.pipeline(transaction=False) as pipe:
                for _ in range(300):
                    pipe.xadd(outboxes["full"].key, {"letter": entry})
                await pipe.execute()
            while not arrived.is_set() and await full.outbox_length() > 500:
                await asyncio.sleep(0)

    filling = asyncio.create_task(fill())
    while not await full.outbox_length():
        await asyncio.sleep(0.01)
    forwarding = asyncio.create_task(forwarder.run())
    try:
        async with asyncio.timeout(60):
            while not await redis.llen(LISTS[0]):
                await asyncio.sleep(0.01)
            await other.enqueue([a_message("m1", reply_to=LISTS[1])])
            (claim,) = (await other.claim(1)).claims
            await other.settle([DeliveredOne(claim.ticket, claim.fencing_token, 1)])
            forwarder.notify("other")
            while not await redis.llen(LISTS[1]):
                await asyncio.sleep(0.01)
    finally:
        arrived.set()
        await filling
        while not forwarding.done():
            forwarding.cancel()
            await asyncio.wait([forwarding], timeout=1)


async def test_receipts_that_a_dead_worker_left_are_found_by_a_poll(redis: Client) -> None:
    lane, outboxes = a_lane(redis, unregistered_share=0.0), Outboxes(redis, "relay", ["test"])
    forwarder = Forwarder(outboxes, Replicas(redis), tuning=ForwardTuning(poll=0.01))
    forwarding = asyncio.create_task(forwarder.run())
    try:
        async with asyncio.timeout(120):
            for last in (5, 10):  # the first ones are found at the start
                await deliver(lane, range(last - 5, last))
                while await arrived(redis) != expected(range(last)):
                    await asyncio.sleep(0.01)
    finally:
        while not forwarding.done():  # in a cluster the client may swallow a cancellation
            forwarding.cancel()
            await asyncio.wait([forwarding], timeout=1)


async def test_feedback_comes_once(redis: Client) -> None:
    lane = a_lane(redis, unregistered_share=0.0)
    await lane.enqueue([a_message(f"m{number}") for number in range(150)])
    policy = Policy(options())
    while claims := (await lane.claim(50)).claims:
        gone = [Unregistered(f"token-{claim.message.id}", "410") for claim in claims]
        entries = [policy.settle(claim, end) for claim, end in zip(claims, gone, strict=True)]
        await lane.settle(entries)
    await asyncio.gather(*(forward_all(a_forwarder(redis)) for _ in range(3)))
    feedback = await entries_of(redis, "relay:feedback")
    assert [fields[b"target"].decode() for _, fields in feedback] == [f"token-m{n}" for n in range(150)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 7)),
        *(
            st.tuples(st.just(step), st.integers(0, 2))
            for step in ("read", "forward", "forward", "forget", "die")
        ),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_each_receipt_comes_once_and_in_order_from_any_interleaving_of_forwarders(
    server_url: str, steps: list[tuple[str, int]]
) -> None:
    """Three forwarders, each at its own point of reading, forwarding to one list after the other."""

    async def run() -> None:
        redis = open_client(server_url)
        await redis.execute_command("FLUSHALL")
        lane, outbox, sent = a_lane(redis, unregistered_share=0.0), Outbox(redis, "relay", "test"), 0
        hands: dict[int, tuple[int, str, dict[str, list[tuple[str, bytes]]], dict[str, str]]] = {}
        try:
            for step, number in steps:
                if step == "deliver":
                    await deliver(lane, range(sent, sent + number))
                    sent += number
                elif step == "read" and (found := await outbox.read(5)).entries:
                    by_target: dict[str, list[tuple[str, bytes]]] = {}
                    for entry_id, packed in found.entries:
                        entry = decode(packed)
                        assert isinstance(entry, ReceiptEntry)
                        text = msgspec.json.encode(receipt("test", entry))
                        by_target.setdefault(entry.reply_to, []).append((entry_id, text))
                    hands[number] = found.deadline, found.entries[-1][0], by_target, {}
                elif step == "forward" and number in hands and hands[number][2]:
                    target, entries = hands[number][2].popitem()
                    hands[number][3][target] = entries[-1][0]
                    if await outbox.forward(target, "list", hands[number][0], entries) != "ok":
                        del hands[number]  # another worker has forwarded them: it would read again
                elif step == "forget" and number in hands and not hands[number][2]:
                    _, last, _, came = hands.pop(number)
                    assert await outbox.forget(last, came)
                elif step == "die":
                    hands.pop(number, None)
            await forward_all(a_forwarder(redis))
            assert await arrived(redis) == expected(range(sent))
        finally:
            await redis.aclose()

    asyncio.run(run())


@given(
    counts=st.dictionaries(st.sampled_from(["delivered", "dead", "expired"]), st.integers(1, 9), min_size=1)
)
def test_the_receipt_of_a_fan_out_counts_the_outcomes_of_its_targets(counts: dict[str, int]) -> None:
    told = receipt("test", ReceiptEntry("answers", "a", "partial", "", 0, 1_000, counts))
    assert told["targets"] == counts
    assert sum(int(part.split()[0]) for part in str(told["reason"]).split(", ")) == sum(counts.values())
