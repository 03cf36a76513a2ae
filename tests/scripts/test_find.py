"""Finding messages in lanes and queues, on every installed Redis and on a cluster."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.engine.policy import Policy
from relay.errors import StoreError, UsageError
from relay.message.fan_out import split
from relay.operations.find import Found, State, documents, find, search
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised
from relay.settings.models import QueueSettings, Settings
from relay.store import journal
from relay.store.attempts import Attempt, encode
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.journal import JournalEntry, JournalQuery
from relay.store.keys import LaneKeys
from relay.store.lane import Lane
from relay.store.pause import Pause
from relay.store.scripting import script
from testing.builders import a_lane, a_message, options, plain_message

HOUR = 3600.0


def settings(**fields: Any) -> Settings:
    return Settings(
        queues=[
            QueueSettings(name="notifications", provider="test"),
            QueueSettings(name="own", scope="queue"),
        ],
        providers={"test": options(**fields), "other": options()},
    )


async def a_worker(redis: Redis, name: str = "w1") -> None:
    info = WorkerInfo(
        name,
        "web-1",
        "host",
        4711,
        "0.1.0",
        time.time(),
        lanes=("test", "other"),
        queues=("notifications", "own"),
    )
    await Fleet(redis, "relay").heartbeat(info)


async def one(redis: Redis, message_id: str, **fields: Any) -> Found:
    (found,) = await find(redis, settings(**fields), message_id)
    return found


async def settle(lane: Lane, outcome: Outcome, most: int = 1, **fields: Any) -> None:
    policy = Policy(options(**fields))
    claims = (await lane.claim(most)).claims
    await lane.settle([policy.settle(claim, outcome) for claim in claims])


async def write(redis: Redis, *entries: JournalEntry) -> None:
    for entry in entries:
        await redis.xadd(journal.journal_stream("relay", "test"), {"entry": journal.encode(entry)})


async def test_a_waiting_message_has_its_place_and_the_reason(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis)
    await lane.enqueue([a_message("a"), a_message("b"), a_message("c")])
    await lane.enqueue([a_message("urgent", priority="high")])
    found = await one(redis, "b")
    assert (found.provider, found.state, found.position, found.queue) == (
        "test",
        State.WAITING,
        3,
        "notifications",
    )
    assert found.why_not_now == "2 messages are before it"
    assert (await one(redis, "urgent")).position == 1
    assert (await one(redis, "a")).why_not_now == "1 message is before it"


async def test_the_newest_message_is_next_with_lifo(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis, order="lifo")
    await lane.enqueue([a_message("a"), a_message("b"), a_message("c")])
    assert [(await one(redis, name, order="lifo")).position for name in "abc"] == [3, 2, 1]


async def test_a_rate_gives_the_time_of_a_waiting_message(redis: Redis) -> None:
    await a_worker(redis)
    await a_lane(redis, rate="2/s").enqueue([a_message(str(number)) for number in range(21)])
    found = await one(redis, "20", rate="2/s")
    assert found.due_at
    assert 9 < found.due_at - time.time() < 11
    assert found.why_not_now == "20 messages are before it, at 2/s"


async def test_an_id_that_relay_has_made_is_found(redis: Redis) -> None:
    await a_worker(redis)
    messages = [plain_message(str(number)) for number in range(1000)]
    await a_lane(redis).enqueue(messages)
    found = await one(redis, messages[700].id)
    assert (found.state, found.position) == (State.WAITING, 701)


async def test_an_id_is_found_in_the_scope_of_its_queue(redis: Redis) -> None:
    await a_worker(redis)
    await a_lane(redis).enqueue([a_message("a"), a_message("a", scope="own")])
    found = await find(redis, settings(), "a")
    assert [each.position for each in found] == [1, 2]


async def test_a_part_of_an_id_finds_nothing(redis: Redis) -> None:
    await a_lane(redis).enqueue([a_message("order-17"), plain_message("order-1")])
    assert await find(redis, settings(), "order-1") == []


async def test_a_delayed_message_shows_its_time_and_its_last_attempt(redis: Redis) -> None:
    await a_worker(redis)
    lane, at = a_lane(redis), time.time() + HOUR
    await lane.enqueue([a_message("later", deliver_at=at), a_message("again")])
    await settle(lane, Retry("503 down"), retry={"base": HOUR, "max": HOUR})
    later, again = await one(redis, "later"), await one(redis, "again")
    assert (later.state, again.state) == (State.DELAYED, State.DELAYED)
    assert later.due_at == pytest.approx(at, abs=0.01)
    assert later.why_not_now.startswith("it is due at 20")
    assert again.why_not_now.startswith("its attempt 1 failed, and the next one is due at 20")


async def test_a_blocked_message_names_the_one_that_comes_first(redis: Redis) -> None:
    await a_worker(redis)
    await a_lane(redis).enqueue([a_message(name, ordering_key="user-1") for name in ("a", "b", "c")])
    assert (await one(redis, "a")).state == State.WAITING
    found = await one(redis, "c")
    assert (found.state, found.position) == (State.BLOCKED, None)
    assert found.why_not_now == (
        'message "a" with its ordering key "user-1" comes first, and 1 more wait before it'
    )


async def test_a_message_in_flight_names_its_worker(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    await lane.claim(1)
    found = await one(redis, "a")
    assert (found.state, found.worker) == (State.IN_FLIGHT, "w1")
    assert found.why_not_now == "worker w1 (host web-1, pid 4711) sends it now"


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Throttled("429 slow down", 3600), "the provider asked to wait, for another 1h: 429 slow down"),
        (Unauthorised("401 bad key"), "the provider refused it; other messages are tried to find the cause"),
    ],
)
async def test_a_message_of_a_holding_lane_shows_why_it_holds(
    redis: Redis, outcome: Outcome, why: str
) -> None:
    await a_worker(redis)
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    policy = Policy(options())
    (claim,) = (await lane.claim(1)).claims
    hold = policy.hold(outcome) if isinstance(outcome, Throttled) else None
    await lane.settle([policy.settle(claim, outcome)], hold)
    found = await one(redis, "a")
    assert (found.state, found.why_not_now) == (State.WAITING, why)


async def test_a_paused_lane_and_a_lane_without_workers_say_so(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    found = await one(redis, "a")
    assert (found.why_not_now, found.due_at) == ("no living worker serves test", None)
    await a_worker(redis)
    await lane.pause(Pause(0.0, time.time(), "ann@ops", "new key\x1b"))
    found = await one(redis, "a")
    assert found.why_not_now.startswith("the provider is paused: new key")
    assert found.due_at is None


async def test_a_message_of_a_group_shows_why_its_group_waits(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis, groups={"by": "message"})
    await lane.enqueue([a_message(f"a{number}", group="a") for number in range(3)])
    await lane.enqueue([a_message(f"b{number}", group="b") for number in range(9)])
    rules = {"groups": {"by": "message"}}
    found = await one(redis, "a2", **rules)
    # Two rounds of both groups, and one more message of each, at most.
    assert (found.group, found.position) == ("a", 6)
    await lane.pause_group("a", 0, "ann@ops", "unpaid")
    found = await one(redis, "a2", **rules)
    assert found.why_not_now.startswith("its group is paused: unpaid")
    assert found.due_at is None


async def test_a_fan_out_that_is_expanded_shows_it(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis)
    tokens = [f"t{number}" for number in range(10)]
    payload = json.dumps({"targets": tokens}).encode()
    await lane.enqueue([split(a_message("all", payload_json=payload), "token", 4)])
    await lane.claim(1)
    found = await one(redis, "all")
    assert found.state in (State.WAITING, State.IN_FLIGHT)
    assert found.why_not_now


async def test_a_dead_letter_names_the_command_that_sends_it_again(redis: Redis) -> None:
    lane = a_lane(redis)
    await lane.enqueue([a_message("a")])
    await settle(lane, Rejected("413 too large", 413))
    found = await one(redis, "a")
    assert found.state == State.DEAD
    assert "413 too large" in found.why_not_now
    assert "`relay dead retry test --id a`" in found.why_not_now
    assert found.ended_at == pytest.approx(time.time(), abs=600)


async def test_an_ended_message_is_found_in_the_journal_with_its_attempts(redis: Redis) -> None:
    await write(
        redis,
        JournalEntry(10.0, "a", outcome="retry", status=503, reason="down", attempt=1, request_seconds=0.5),
        JournalEntry(11.0, "b", outcome="delivered", status=200, attempt=1),
        JournalEntry(20.0, "a", outcome="delivered", status=200, attempt=2, worker="w1", provider_id="p1"),
    )
    found = await one(redis, "a")
    assert (found.state, found.outcome, found.ended_at) == (State.ENDED, "delivered", 20.0)
    assert [(attempt.at, attempt.status) for attempt in found.attempts] == [(10.0, 503), (20.0, 200)]
    assert found.attempts[1].provider_id == "p1"


async def test_attempts_of_an_earlier_message_with_the_same_id_are_left_out(redis: Redis) -> None:
    await a_worker(redis)
    await a_lane(redis).enqueue([a_message("a")])
    await write(
        redis,
        JournalEntry(10.0, "a", outcome="delivered", status=200),
        JournalEntry(20.0, "a", outcome="retry", status=500, reason="oops"),
    )
    found = await one(redis, "a")
    assert [attempt.reason for attempt in found.attempts] == ["oops"]


async def test_attempts_that_only_the_message_remembers_are_added(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis)
    await lane.enqueue([a_message("a", deliver_at=time.time() + HOUR)])
    remembered = encode([Attempt(10.0, 500, "first", "w1"), Attempt(20.2, 503, "second", "w1")])
    (ticket,) = await redis.hkeys("relay:{test}:bodies")
    await redis.hset("relay:{test}:tries", ticket, f"2:2:0:0 {remembered}")
    await write(redis, JournalEntry(20.0, "a", outcome="retry", status=503, reason="second", attempt=2))
    found = await one(redis, "a")
    assert [(attempt.at, attempt.reason) for attempt in found.attempts] == [(10.0, "first"), (20.0, "second")]


async def test_an_element_of_a_queue_is_found_at_its_place(redis: Redis) -> None:
    elements = [json.dumps({"id": f"m{number}", "payload": {}}) for number in range(1200)]
    await redis.rpush("notifications", *elements, "not json with m7", '{"id": 7}')
    found = await one(redis, "m700")
    assert (found.state, found.provider, found.position) == (State.QUEUED, "test", 701)
    assert found.why_not_now == "no living worker reads the queue notifications"
    await a_worker(redis)
    assert (await one(redis, "m700")).why_not_now == "700 elements are before it in the queue"
    await redis.rpush("own", '{"id": "mine", "provider": "other", "payload": {}}')
    found = await one(redis, "mine")
    assert (found.provider, found.why_not_now) == ("other", "it is the next element of the queue")


async def test_large_messages_and_elements_are_searched_in_small_steps(redis: Redis) -> None:
    await a_worker(redis)
    large = b'{"text":"%s"}' % (b"x" * 100_000)
    messages = [plain_message("x" * 100_000) for _ in range(40)]
    await a_lane(redis).enqueue(messages)
    await redis.rpush("notifications", *(b'{"id":"q%d","payload":%s}' % (n, large) for n in range(40)))
    found = [await one(redis, name) for name in (messages[17].id, "q31")]
    assert [each.state for each in found] == [State.WAITING, State.QUEUED]
    assert found[1].position == 32
    bodies, elements = script("search_bodies"), script("search_list")
    keys = LaneKeys.of("relay", "test").of_script(bodies.lane_parts)
    _, records, *_ = await bodies.run(redis, keys, "0", 500, "nowhere", 500, 128 * 1024)
    number, *_ = await elements.run(redis, ("notifications",), 0, 499, "nowhere", 1024 * 1024, 128 * 1024)
    assert (records <= 20, number) == (True, 2)


async def test_a_search_for_one_provider_finds_elements_of_queues_too(redis: Redis) -> None:
    await redis.rpush(
        "notifications", '{"id":"a","payload":{}}', '{"id":"a","provider":"other","payload":{}}'
    )
    for provider, place in (("test", 1), ("other", 2)):
        (found,) = await find(redis, settings(), "a", provider)
        assert (found.state, found.provider, found.position) == (State.QUEUED, provider, place)


async def test_a_delivery_is_known_during_the_dedup_window_without_a_journal(redis: Redis) -> None:
    lane = a_lane(redis, dedup_window=HOUR)
    await lane.enqueue([a_message("a")])
    await settle(lane, Delivered(), dedup_window=HOUR)
    found = await one(redis, "a")
    assert (found.state, found.outcome) == (State.ENDED, "delivered")


@pytest.mark.parametrize("part", ["journal", "seen"])
async def test_a_key_that_cannot_be_read_hides_only_messages_of_its_lane(redis: Redis, part: str) -> None:
    await redis.set(LaneKeys.of("relay", "test").part(part), "text")
    await a_lane(redis, name="other").enqueue([a_message("a")])
    assert (await one(redis, "a")).provider == "other"
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await find(redis, settings(), "b")


async def test_messages_are_found_by_group_and_keys(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis, groups={"by": "message"})
    await lane.enqueue(
        [a_message("g1", group="acme"), a_message("g2", group="acme"), a_message("x", group="b")]
    )
    await lane.enqueue([a_message("o1", ordering_key="k"), a_message("o2", ordering_key="k")])
    await lane.enqueue([a_message("c1", collapse_key="c")])
    await write(
        redis,
        JournalEntry(1.0, "g0", group="acme", outcome="delivered"),
        JournalEntry(2.0, "t0", target="token-1", outcome="unregistered"),
    )
    there = settings(groups={"by": "message"})

    async def ids(**query: Any) -> list[str]:
        return [found.id for found in await search(redis, there, JournalQuery(**query))]

    assert await ids(group="acme") == ["g1", "g2", "g0"]
    assert await ids(ordering_key="k") == ["o1", "o2"]
    assert await ids(collapse_key="c") == ["c1"]
    assert await ids(target="token-1") == ["t0"]
    assert await ids(group="nobody") == []
    assert len(await search(redis, there, JournalQuery(group="acme"), limit=1)) == 1


async def test_messages_of_a_group_are_found_in_flight_and_between_attempts(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis, groups={"by": "message"})
    await lane.enqueue([a_message("retried", group="acme")])
    await settle(lane, Retry("503"))
    await lane.enqueue([a_message("sent", group="acme")])
    await lane.claim(1)
    await lane.enqueue([a_message("other", group="b", payload_json=b'{"name":"acme"}')])
    found = await search(redis, settings(groups={"by": "message"}), JournalQuery(group="acme"))
    assert {each.id: each.state for each in found} == {
        "retried": State.DELAYED,
        "sent": State.IN_FLIGHT,
    }


async def test_messages_that_the_journal_names_are_found_where_they_are_now(redis: Redis) -> None:
    await a_worker(redis)
    lane = a_lane(redis)
    await lane.enqueue([a_message("dead")])
    await settle(lane, Retry("503: closed", status=503), retry={"attempts": 1})
    await lane.enqueue([a_message("waits")])
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    await write(
        redis,
        JournalEntry(100.0, "ended", outcome="delivered", status=200, attempt=1, traceparent=trace),
        JournalEntry(200.0, "dead", outcome="dead", status=503, attempt=1, traceparent=trace),
        JournalEntry(300.0, "waits", outcome="retry", status=503, attempt=1, traceparent=trace),
    )
    found = await search(redis, settings(), JournalQuery(traceparent=trace))
    assert [(each.id, each.state) for each in found] == [
        ("waits", State.WAITING),
        ("dead", State.DEAD),
        ("ended", State.ENDED),
    ]


async def test_an_unknown_provider_and_an_impossible_id_are_refused(redis: Redis) -> None:
    with pytest.raises(UsageError, match='no provider "nobody"'):
        await find(redis, settings(), "a", "nobody")
    for message_id in ("", "a" * 200):
        with pytest.raises(UsageError, match="ID: write 1 to"):
            await find(redis, settings(), message_id)
    with pytest.raises(UsageError, match="not valid UTF-8"):
        await find(redis, settings(), "\udcff")
    with pytest.raises(UsageError, match=r"--group: .* not valid UTF-8"):
        await search(redis, settings(), JournalQuery(group="\udcff"))
    assert await find(redis, settings(), "a", "test") == []


async def test_a_document_has_the_fields_of_the_contract(redis: Redis) -> None:
    await write(redis, JournalEntry(10.0, "a", outcome="delivered", status=200))
    (document,) = documents(await find(redis, settings(), "a"))
    contract = {
        "provider",
        "id",
        "group",
        "state",
        "position",
        "due_at",
        "worker",
        "outcome",
        "why_not_now",
        "attempts",
    }
    assert contract <= set(document)
    assert {"at", "status", "reason", "request_seconds", "worker"} <= set(document["attempts"][0])
