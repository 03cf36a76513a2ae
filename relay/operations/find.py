"""Finds messages in all places, with their attempts, the time of the next one, and why they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any

from relay.errors import StoreError, UsageError
from relay.operations.find_in_journal import MOST_ENTRIES
from relay.operations.find_in_lanes import (
    SearchedLane,
    in_lane,
    journalled,
    located,
    tickets_of,
)
from relay.operations.find_in_queues import in_queues
from relay.operations.found import Found, State, documents
from relay.redis_client.client import Client, is_refusal
from relay.settings.models import Settings
from relay.store import journal
from relay.store.journal import JournalEntry, JournalQuery
from relay.store.overview import Overview, read_overview, read_provider
from relay.text import enumerated, quote

__all__ = ["Found", "State", "documents", "find", "search"]

LONGEST_ID = 128 + 16
"""Characters of an id; parts of a fan-out have `#` and a number behind it."""

FURTHER_LOOKS = 3
"""A message may move from its queue into its lane, or end, between two reads of one look."""

BETWEEN_LOOKS = 0.4
"""Seconds. All looks together take longer than an entry of the journal needs to arrive."""


async def find(
    client: Client, settings: Settings, message_id: str, provider: str | None = None
) -> list[Found]:
    """Return all messages with this id, over all lanes and queues of the fleet or in one lane.

    Raises UsageError for an id or a provider that cannot be, StoreError.
    """
    if not 0 < len(message_id) <= LONGEST_ID:
        raise UsageError(f"ID: write 1 to {LONGEST_ID} characters, this has {len(message_id)}")
    _check_unicode("ID", message_id)
    found, is_moving = await _look(client, settings, message_id, provider)
    for _ in range(FURTHER_LOOKS):
        if found or not is_moving:
            break
        await asyncio.sleep(BETWEEN_LOOKS)
        found, is_moving = await _look(client, settings, message_id, provider)
    return found


async def _look(
    client: Client, settings: Settings, message_id: str, provider: str | None
) -> tuple[list[Found], bool]:
    """Look once at all places. Returns also whether a worker may have moved the message meanwhile."""
    overview = await _overview(client, settings, provider)
    lanes = [in_lane(client, settings, lane, message_id) for lane in _lanes(overview)]
    if provider is not None:
        overview = await read_overview(client, settings)
    queues = in_queues(client, settings, overview, message_id)
    found = await _readable((*queues, *lanes))
    return [one for one in found if provider in (None, one.provider)], bool(overview.alive)


async def _readable(searches: Iterable[Coroutine[Any, Any, list[Found]]]) -> list[Found]:
    """Return all results. A key that Redis refuses to read spoils only the search of its own lane or queue.

    Raises StoreError if nothing is found and something could not be read.
    """
    results = await asyncio.gather(*searches, return_exceptions=True)
    found: list[Found] = []
    refusals: list[StoreError] = []
    for result in results:
        if isinstance(result, StoreError) and (is_refusal(result) or result.__cause__ is None):
            refusals.append(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            found += result
    if refusals and not found:
        raise refusals[0]
    return found


async def search(
    client: Client, settings: Settings, query: JournalQuery, provider: str | None = None, limit: int = 20
) -> list[Found]:
    """Return the newest messages with a group, an ordering key, a collapse key, a target or a trace.

    Messages that have not ended are found by group and keys; others only if the journal has them. They
    come without their content. Raises UsageError, StoreError.
    """
    for name in ("group", "ordering_key", "collapse_key", "target", "traceparent"):
        _check_unicode(f"--{name.replace('_', '-')}", getattr(query, name))
    prefix = settings.redis.prefix
    found: list[Found] = []
    for lane in _lanes(await _overview(client, settings, provider)):
        tickets = await tickets_of(client, settings, lane, query, limit)
        waiting = [await located(client, settings, lane, ticket) for ticket in tickets]
        found += [
            replace(one, message=None)
            for one in waiting
            if one is not None and query.group in ("", one.group)
        ][:limit]
        entries = await journal.search(client, prefix, lane.provider, query, limit=MOST_ENTRIES)
        known = {one.id for one in found}
        newest: dict[str, JournalEntry] = {}
        for entry in entries:
            newest.setdefault(entry.id, entry)
        for message_id in [name for name in newest if name not in known][:limit]:
            found += [
                replace(one, message=None)
                for one in await journalled(client, settings, lane, newest[message_id])
            ]
    return found[:limit]


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name}: {quote(text)} is not valid UTF-8") from None


async def _overview(client: Client, settings: Settings, provider: str | None) -> Overview:
    if provider is None:
        return await read_overview(client, settings)
    overview = await read_provider(client, settings, provider)
    if not overview.lanes:
        raise UsageError(
            f"no provider {quote(provider)} in {settings.path}, and no lane of it; "
            f"known: {enumerated(settings.providers)}"
        )
    return overview


def _lanes(overview: Overview) -> list[SearchedLane]:
    workers = {member.info.worker: member for member in (*overview.workers, *overview.lost)}
    return [SearchedLane(status, workers, overview.at) for status in overview.lanes]
