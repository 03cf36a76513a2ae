"""Messages in the journals of all lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from relay.redis_client.client import Client
from relay.store.journal import JournalEntry, JournalQuery, latest, search

KINDS: Final = {
    "text": "Any text",
    "id": "Id",
    "group": "Group",
    "ordering_key": "Ordering key",
    "collapse_key": "Collapse key",
    "target": "Target",
    "traceparent": "Traceparent",
}
"""The fields that a search may compare, with their labels. `text` is part of any of them."""

MOST = 100
"""Entries of one page."""

TOGETHER = 8
"""Journals that are searched at the same time."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a journal, and the lane that has it."""

    provider: str
    entry: JournalEntry


async def search_messages(
    client: Client, prefix: str, providers: Sequence[str], kind: str, text: str, outcome: str = ""
) -> list[Found]:
    """Return the newest entries that match, the newest first. Raises StoreError."""
    slots = asyncio.Semaphore(TOGETHER)
    query = msgspec.convert({kind: text, "outcome": outcome}, JournalQuery)

    async def of_lane(provider: str) -> list[Found]:
        async with slots:
            if text or outcome:
                entries = await search(client, prefix, provider, query, limit=MOST)
            else:
                entries = await latest(client, prefix, provider, limit=MOST)
        return [Found(provider, entry) for entry in entries]

    found = [one for lane in await asyncio.gather(*map(of_lane, providers)) for one in lane]
    return sorted(found, key=lambda one: -one.entry.at)[:MOST]
