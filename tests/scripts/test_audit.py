"""The audit log, on every installed Redis and on a cluster."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.store import audit
from relay.store.audit import AuditEntry

KEY = "relay:{fleet}:audit"


async def test_actions_are_read_newest_first_with_the_time_of_redis(redis: Redis) -> None:
    for number in range(3):
        await audit.record(redis, "relay", AuditEntry("purge", "ann@ops", "hooks", count=number))
    entries = await audit.read(redis, "relay")
    assert [entry.count for entry in entries] == [2, 1, 0]
    assert all(abs(entry.at - time.time()) < 3600 for entry in entries)
    assert [entry.count for entry in await audit.read(redis, "relay", limit=1)] == [2]


async def test_actions_can_be_selected_by_time_and_provider(redis: Redis) -> None:
    await audit.record(redis, "relay", AuditEntry("pause", "ann@ops", "a"))
    await audit.record(redis, "relay", AuditEntry("pause", "ann@ops", "b"))
    assert [entry.provider for entry in await audit.read(redis, "relay", provider="a")] == ["a"]
    first = (await audit.read(redis, "relay"))[-1]
    assert len(await audit.read(redis, "relay", since=first.at)) == 2
    assert await audit.read(redis, "relay", since=time.time() + 86400) == []


async def test_a_selection_goes_on_beyond_the_first_page(redis: Redis) -> None:
    await audit.record(redis, "relay", AuditEntry("pause", "ann@ops", "rare"))
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(audit.PAGE + 1):
            pipe.xadd(KEY, {"entry": b'{"at": 0, "who": "x", "action": "pause", "provider": "often"}'})
        await pipe.execute()
    assert len(await audit.read(redis, "relay", provider="rare")) == 1


async def test_hostile_words_stay_on_one_line_and_are_cut(redis: Redis) -> None:
    why = "a\nb\x1b[31m" + "c" * 10_000
    await audit.record(redis, "relay", AuditEntry("pause", "ann\r\n@ops", "a", why=why))
    (entry,) = await audit.read(redis, "relay")
    assert entry.who.isprintable()
    assert entry.why.isprintable()
    assert len(entry.why) <= audit.LONGEST


@pytest.mark.parametrize(
    "raw", [b"", b"\xff\xfe", b"[]", b'{"at": 1}', b'{"at": "x", "who": 1, "action": 2}']
)
async def test_entries_of_other_programs_are_skipped(redis: Redis, raw: bytes) -> None:
    await redis.xadd(KEY, {"entry": raw})
    await redis.xadd(KEY, {"something": "else"})
    await audit.record(redis, "relay", AuditEntry("pause", "ann@ops"))
    assert [entry.who for entry in await audit.read(redis, "relay")] == ["ann@ops"]


async def test_a_key_of_a_wrong_type_is_reported_as_a_missing_entry(redis: Redis) -> None:
    await redis.set(KEY, "something else")
    with pytest.raises(StoreError, match="done, but not in the audit log"):
        await audit.record(redis, "relay", AuditEntry("pause", "ann@ops"))
    with pytest.raises(StoreError, match="audit: "):
        await audit.read(redis, "relay")
