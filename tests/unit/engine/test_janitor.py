"""The janitor on a real Redis: it deletes only entries that are older than the options allow."""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from relay.engine.janitor import Janitor
from relay.provider import discover
from relay.settings.load import load
from relay.store import journal
from relay.store.fleet import Fleet
from relay.store.journal import JournalEntry, journal_stream
from testing.redis_server import RedisServer
from testing.relay_process import write_config
from testing.site import PUSHER


async def test_entries_of_a_journal_that_are_too_old_are_deleted(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    providers = {
        "hour": {**PUSHER, "journal": {"keep": "1h"}},
        "week": PUSHER,
        "off": {**PUSHER, "journal": False},
    }
    path = write_config(tmp_path, redis_server.url, providers)
    settings = load(path, {name: adapter.Options for name, adapter in discover().items()}, {})
    fleet = Fleet(redis, "relay")
    now = await fleet.now()
    for provider in providers:
        for age in (8 * 86_400, 2 * 3600, 60):
            entry = journal.encode(JournalEntry(now - age, f"{age} s old"))
            await redis.xadd(
                journal_stream("relay", provider), {"entry": entry}, id=f"{round((now - age) * 1000)}-0"
            )
    assert await Janitor(redis, settings, fleet).trim() == 0  # dead letters
    left = {
        provider: [entry.id for entry in await journal.latest(redis, "relay", provider)]
        for provider in providers
    }
    assert left == {
        "hour": ["60 s old"],
        "week": ["60 s old", "7200 s old"],
        "off": ["60 s old", "7200 s old"],
    }
