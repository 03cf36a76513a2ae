"""The journal of a lane: one entry for each message that has ended, and for each failed attempt.

A capped stream, the newest entries last. Workers write most entries (`record.lua`); scripts write those of
messages that end without a worker (`parts/journal.lua`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from relay.redis_client.client import Client
from relay.store.keys import LaneKeys
from relay.store.reading import Command, read_all
from relay.store.scripting import script

JournalOutcome = Literal[
    "delivered",
    "retry",
    "throttled",
    "rejected",
    "dead",
    "unregistered",
    "unauthorised",
    "expired",
    "duplicate",
    "collapsed",
    "dropped",
    "cancelled",
]
"""After `retry`, `throttled` and `unauthorised` the message waits again. With the others it has ended."""

LONGEST_REASON = 200
"""Characters of a reason in the journal."""

PAGE = 500
"""Entries that one script reads: Redis serves no other client meanwhile."""


class JournalEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry. The scripts know the positions of the fields, so new ones come at the end.

    `at` is in Unix seconds, `waited` the seconds from the push (or the message's `deliver_at`) until then.
    `attempt` is 1 for the first attempt, and 0 if there was none. Empty texts and zeros stand for unknown
    values.
    """

    at: float
    id: str
    group: str = ""
    outcome: str = ""
    status: int = 0
    reason: str = ""
    attempt: int = 0
    waited: float = 0.0
    request_seconds: float = 0.0
    worker: str = ""
    ordering_key: str = ""
    collapse_key: str = ""
    target: str = ""
    traceparent: str = ""
    provider_id: str = ""


class JournalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The entries to find: all conditions apply, and an empty one is none.

    `text` is part of an id, a group, a reason, a key, a target or a provider's id; the case of ASCII letters
    does not matter. `since` and `until` are in Unix seconds.
    """

    id: str = ""
    group: str = ""
    outcome: str = ""
    ordering_key: str = ""
    collapse_key: str = ""
    target: str = ""
    traceparent: str = ""
    text: str = ""
    since: float = 0.0
    until: float = 0.0


_POSITIONS = {name: place for place, name in enumerate(JournalEntry.__struct_fields__, 1)}
_EXACT = ("id", "group", "outcome", "ordering_key", "collapse_key", "target", "traceparent")
_CLOCKS = 60.0
"""Seconds by which clocks of hosts may differ: an entry's `at` is by that of its worker."""
_LATE = 600.0
"""Seconds by which an entry may come late, because Redis was away."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(JournalEntry).decode


def encode(entry: JournalEntry) -> bytes:
    """Encode an entry for the stream."""
    return _encode(entry)


async def search(
    client: Client, prefix: str, provider: str, query: JournalQuery, *, limit: int = 100, page: int = PAGE
) -> list[JournalEntry]:
    """Return the newest entries that match, the newest first. Raises StoreError."""
    found_script = script("journal_page")
    keys = LaneKeys.of(prefix, provider).of_script(found_script.lane_parts)
    exact = [(_POSITIONS[name], _valid(value)) for name in _EXACT if (value := getattr(query, name))]
    # Lua's lower() has ASCII only.
    text = _valid(query.text).encode().lower().decode()
    packed = _encode({"exact": exact, "text": text, "since": query.since, "until_": query.until})
    start = f"{round((query.until + _LATE) * 1000)}-0" if query.until else "+"
    oldest = (query.since - _CLOCKS) * 1000
    found: list[JournalEntry] = []
    while start and len(found) < limit:
        next_start, *entries = await found_script.run(client, keys, packed, start, page, limit - len(found))
        found += filter(None, map(_readable, entries))
        start = next_start.decode()
        if start and int(start.partition("-")[0]) < oldest:
            break
    return found


async def latest(client: Client, prefix: str, provider: str, *, limit: int = 100) -> list[JournalEntry]:
    """Return the newest entries, the newest first. Raises StoreError."""
    return await search(client, prefix, provider, JournalQuery(), limit=limit)


async def newest_first(client: Client, prefix: str, providers: Sequence[str]) -> list[str]:
    """Return the lanes that have a journal, by their newest entries. Raises StoreError."""
    commands: list[Command] = [
        ("XREVRANGE", journal_stream(prefix, provider), "+", "-", "COUNT", 1) for provider in providers
    ]
    replies, _ = await read_all(client, *commands)
    # The id of an entry begins with the time at which it was written, in milliseconds.
    times = {
        provider: int(reply[0][0].partition(b"-")[0])
        for provider, reply in zip(providers, replies, strict=True)
        if reply
    }
    return sorted(times, key=lambda provider: -times[provider])


def journal_stream(prefix: str, provider: str) -> str:
    """Return the stream of a provider's journal."""
    return LaneKeys.of(prefix, provider).part("journal")


def _valid(text: str) -> str:
    """Return the text without surrogates, which arguments of a command may contain."""
    return text.encode("utf-8", "replace").decode()


def _readable(packed: bytes) -> JournalEntry | None:
    """Decode an entry; None if it is malformed, or from a version that this one does not know."""
    try:
        return _decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
