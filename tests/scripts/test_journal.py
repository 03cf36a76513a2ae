"""The journal of a lane on every Redis that is here: capped, and searched in Redis page by page."""

from __future__ import annotations

from typing import Any

import pytest

from relay.redis_client.client import Client
from relay.store import journal
from relay.store.journal import JournalEntry, JournalQuery
from relay.store.keys import LaneKeys
from relay.store.recording import Policy, Recording, Report

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
        (JournalQuery(text="w1"), []),
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
