"""The journal of a lane on every installed Redis: capped, and searched in Redis page by page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.engine.policy import Policy as Outcomes
from relay.outcome import Delivered, Retry, Unauthorised
from relay.redis_client.client import Client
from relay.store import journal
from relay.store.journal import JournalEntry, JournalQuery
from relay.store.keys import LaneKeys
from relay.store.lane import POISON
from relay.store.recording import Policy, Recording, Report
from testing.builders import a_lane, a_message, options, plain_message

STREAM = LaneKeys.of("relay", "test").part("journal")

ENTRIES = [
    JournalEntry(100.0, "a", "acme", "retry", 503, "503: the shop is closed", 1, 0.5, 0.1, "w1"),
    JournalEntry(200.0, "a", "acme", "delivered", 200, "", 2, 100.5, 0.2, "w2", provider_id="p-1"),
    JournalEntry(300.0, "b", "big", "rejected", 400, "Ünknown recipient", 1, target="token-1"),
    JournalEntry(400.0, "c", "", "expired", ordering_key="o", collapse_key="k", traceparent="00-1-2-01"),
]


async def write(redis: Client, entries: list[JournalEntry], most: int = 100_000) -> None:
    recording = Recording(redis, "relay", {"test": Policy("w1", 0.0, most)})
    for first in range(0, len(entries), 500):
        packed = [journal.encode(entry) for entry in entries[first : first + 500]]
        assert await recording.write({"test": Report(str(first), entries=packed)}) == {}


async def found(redis: Client, query: JournalQuery, **options: Any) -> list[str]:
    entries = await journal.search(redis, "relay", "test", query, **options)
    return [f"{entry.id} {entry.outcome}" for entry in entries]


async def test_the_latest_entries_come_back_whole_and_newest_first(redis: Client) -> None:
    await write(redis, ENTRIES)
    assert await journal.latest(redis, "relay", "test", limit=10) == ENTRIES[::-1]
    assert await journal.latest(redis, "relay", "test", limit=2) == ENTRIES[:1:-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (JournalQuery(id="a"), ["a delivered", "a retry"]),
        (JournalQuery(id="a", outcome="retry"), ["a retry"]),
        (JournalQuery(group="big"), ["b rejected"]),
        (JournalQuery(ordering_key="o"), ["c expired"]),
        (JournalQuery(collapse_key="k"), ["c expired"]),
        (JournalQuery(target="token-1"), ["b rejected"]),
        (JournalQuery(traceparent="00-1-2-01"), ["c expired"]),
        (JournalQuery(outcome="dead"), []),
        (JournalQuery(text="SHOP is"), ["a retry"]),
        (JournalQuery(text="p-1"), ["a delivered"]),
        (JournalQuery(text="Ünknown RECIPIENT"), ["b rejected"]),
        (JournalQuery(text="w1"), []),
        (JournalQuery(id="\udcff", text="\udcff"), []),
        (JournalQuery(since=250.0), ["c expired", "b rejected"]),
        (JournalQuery(until=150.0), ["a retry"]),
        (JournalQuery(since=150.0, until=250.0), ["a delivered"]),
        (JournalQuery(id="a.*"), []),
    ],
)
async def test_a_query_finds_the_entries_that_match(
    redis: Client, query: JournalQuery, expected: list[str]
) -> None:
    for place, entry in enumerate(ENTRIES):
        await redis.xadd(STREAM, {"entry": journal.encode(entry)}, id=f"{round(entry.at * 1000)}-{place}")
    assert await found(redis, query) == expected
    assert await found(redis, query, page=1) == expected


async def test_lanes_are_ordered_by_the_newest_entries_of_their_journals(redis: Client) -> None:
    for name, written in (("old", 1), ("new", 3), ("middle", 2)):
        stream = LaneKeys.of("relay", name).part("journal")
        for number in range(1, written + 1):
            await redis.xadd(stream, {"entry": journal.encode(ENTRIES[0])}, id=f"{number}000-0")
    await redis.set(LaneKeys.of("relay", "broken").part("journal"), "no stream")
    names = ["empty", "old", "broken", "new", "middle"]
    assert await journal.newest_first(redis, "relay", names) == ["new", "middle", "old"]
    assert await journal.newest_first(redis, "relay", []) == []


async def test_a_search_reads_page_after_page_until_it_has_enough(redis: Client) -> None:
    entries = [JournalEntry(float(number), f"m{number % 10}") for number in range(1, 1001)]
    await write(redis, entries)
    query = JournalQuery(id="m3")
    assert len(await journal.search(redis, "relay", "test", query, limit=1000, page=50)) == 100
    newest = await journal.search(redis, "relay", "test", query, limit=3, page=7)
    assert [entry.at for entry in newest] == [993.0, 983.0, 973.0]


async def test_entries_beyond_the_most_are_dropped_oldest_first(redis: Client) -> None:
    entries = [JournalEntry(float(number), f"m{number}", reason="x" * 100) for number in range(5000)]
    await write(redis, entries, most=1000)
    assert 1000 <= await redis.xlen(STREAM) < 1200
    newest = await journal.latest(redis, "relay", "test", limit=1000)
    assert newest == entries[:3999:-1]


async def test_an_entry_that_cannot_be_read_hides_no_other(redis: Client) -> None:
    await write(redis, ENTRIES[:1])
    await redis.xadd(STREAM, {"entry": b"\x93\x01\x02"})
    await redis.xadd(STREAM, {"entry": b"no entry"})
    await redis.xadd(STREAM, {"other": b"field"})
    await write(redis, ENTRIES[1:2])
    assert await found(redis, JournalQuery(id="a")) in (["a delivered", "a retry"], ["a retry"])
    assert (await journal.latest(redis, "relay", "test"))[-1] == ENTRIES[0]


def journalled(entries: list[JournalEntry]) -> list[tuple[str, str]]:
    return [(entry.id, entry.outcome) for entry in entries[::-1]]


FIELDS: dict[str, Any] = {
    "created_at": 1_700_000_000.5,
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "payload_json": b'{"text":"%s"}' % (b"x" * 70_000),
}


async def test_messages_that_scripts_end_are_in_the_journal(redis: Client) -> None:
    lane = a_lane(redis, dedup_window=60.0, max_backlog=3)
    await lane.enqueue([a_message("once", **FIELDS), a_message("once", **FIELDS)])
    await lane.enqueue([a_message("c1", collapse_key="k", **FIELDS), a_message("c2", collapse_key="k")])
    await lane.enqueue([a_message("late", expires_at=1.0, ordering_key="o")])
    await lane.claim(10)
    await lane.enqueue([a_message("back", priority="low", **FIELDS)])
    await lane.cancel("back", [])
    dropped = (await lane.enqueue([plain_message(f"{number}") for number in range(4)])).dropped
    entries = await journal.latest(redis, "relay", "test")
    ends = journalled(entries)
    assert ends[:4] == [
        ("once", "duplicate"),
        ("c1", "collapsed"),
        ("late", "expired"),
        ("back", "cancelled"),
    ]
    assert [outcome for _, outcome in ends[4:]] == ["dropped"] * dropped
    assert dropped
    once = entries[-1]
    assert (once.traceparent, once.attempt, once.reason) == (
        FIELDS["traceparent"],
        0,
        "a message with this id is pending or was delivered lately",
    )
    assert once.waited > 30_000_000
    assert entries[-2].collapse_key == "k"
    assert entries[-3].ordering_key == "o"


async def test_a_message_that_kills_workers_is_dead_in_the_journal(redis: Client) -> None:
    lane = a_lane(redis)
    await lane.enqueue([plain_message("poison")])
    for _ in range(POISON):
        await lane.claim(1)
        await lane.recover("w1")
    (entry,) = await journal.latest(redis, "relay", "test")
    assert entry.outcome == "dead"
    assert entry.reason.startswith("poison")


async def test_messages_of_a_disabled_group_are_dead_in_the_journal(redis: Client) -> None:
    policy = {"by": "message", "disable_after": 0.001, "breaker": {"failures": 1, "cooldown": 0.0}}
    lane, outcomes = a_lane(redis, groups=policy), Outcomes(options(groups=policy))
    await lane.enqueue([a_message(f"m{number}", group="acme") for number in range(3)])
    async with asyncio.timeout(60):
        while await lane.size():
            claims = (await lane.claim(1)).claims
            await lane.settle([outcomes.settle(claim, Retry("503", after=0.001)) for claim in claims])
            await asyncio.sleep(0.005)
    entries = await journal.latest(redis, "relay", "test")
    assert {entry.group for entry in entries} == {"acme"}
    assert {entry.reason for entry in entries} == {"group disabled"}


async def test_a_refused_message_that_is_at_fault_is_rejected_in_the_journal(redis: Client) -> None:
    lane, outcomes = a_lane(redis), Outcomes(options())
    await lane.enqueue([a_message("bad"), *(a_message(f"good{number}") for number in range(3))])
    async with asyncio.timeout(60):
        while await lane.size():
            claims = (await lane.claim(1)).claims
            ends = [
                outcomes.settle(claim, Unauthorised("403") if claim.message.id == "bad" else Delivered())
                for claim in claims
            ]
            await lane.settle(ends)
    assert journalled(await journal.latest(redis, "relay", "test")) == [("bad", "rejected")]


async def test_a_storm_of_duplicates_writes_as_many_entries_as_the_sample(redis: Client) -> None:
    lane = a_lane(redis, journal={"sample": "5/s"})
    await lane.enqueue([a_message("once")] * 200)
    assert 5 <= await redis.xlen(STREAM) <= 10
    everything = a_lane(redis, journal={"sample": "all"})
    await everything.enqueue([a_message("once")] * 100)
    assert await redis.xlen(STREAM) >= 100


async def test_a_lane_without_a_journal_writes_no_entry(redis: Client) -> None:
    lane = a_lane(redis, journal=False)
    await lane.enqueue([a_message("once"), a_message("once")])
    assert await redis.exists(STREAM) == 0


async def test_a_journal_of_a_wrong_type_stops_no_message(redis: Client) -> None:
    await redis.set(STREAM, "text")
    lane = a_lane(redis)
    enqueued = await lane.enqueue([a_message("once"), a_message("once")])
    assert (enqueued.accepted, enqueued.duplicates) == (1, 1)
    assert await lane.cancel("once", []) == "cancelled"
