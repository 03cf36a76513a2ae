"""Dead letters: messages that could not be delivered, with all that is known about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from relay.errors import StoreError
from relay.message import Message
from relay.redis_client.client import REDIS_ERRORS, Client, describe
from relay.store import attempts
from relay.store.attempts import Attempt
from relay.store.dead_filter import ALL, DeadFilter
from relay.store.keys import LaneKeys, QueueKeys, replay_lock
from relay.store.record import unpack
from relay.store.scripting import script

PAGE = 50
"""Maximum number of letters in a page: less than a millisecond of Redis's time."""

PAGE_BYTES = 128 * 1024
"""Bytes after which a page is full. Redis serves no other client while it reads a page."""

RAW_BYTES = 64 * 1024
"""Bytes of a malformed element that a page holds; `read_complete` reads the rest."""

LOCKED = 60_000
"""Milliseconds for which a letter is locked that is replayed into another slot of a cluster."""

TRIM_STEP = 1000
"""Maximum number of letters that one command deletes, for the same reason."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry. A malformed element has `raw` and no `message`; `at` is in Unix seconds.

    `stream` is the key that holds it, `entry` its id there. `raw` may be cut; `raw_size` is its real length.
    """

    stream: str
    entry: str
    at: float
    reason: str
    queue: str
    message: Message | None = None
    raw: bytes = b""
    raw_size: int = 0
    attempts: int = 0
    status: int = 0
    body: bytes = b""
    history: Sequence[Attempt] = ()
    """The last attempts, the oldest first."""
    provider: str = ""
    """The provider whose lane has it; empty for an element that belongs to no provider."""

    @property
    def id(self) -> str:
        """The id of its message, otherwise its own."""
        return self.message.id if self.message else self.entry


class Revived(NamedTuple):
    """The effect of `revive`, in letters."""

    done: int
    duplicates: int
    """The same id is pending, so the letter stays."""
    gone: int


class Replayed(StrEnum):
    """The end of a replay of one letter."""

    DONE = "done"
    DUPLICATE = "duplicate"
    """A message with its id is pending, so the letter stays."""
    GONE = "gone"


Form = Literal["whole", "brief"]
"""A brief letter has neither message nor raw element."""


def lane_stream(prefix: str, provider: str) -> str:
    """Return the stream of a provider's dead letters."""
    return LaneKeys.of(prefix, provider).part("dead")


def queue_stream(prefix: str, queue: str) -> str:
    """Return the stream of a queue's elements that belong to no provider."""
    return QueueKeys.of(prefix, queue).rejected


async def count(client: Client, stream: str) -> int:
    """Return the number of letters in a stream. Raises StoreError."""
    try:
        return int(await client.xlen(stream))
    except REDIS_ERRORS as error:
        raise StoreError(f"{stream}: {describe(error)}") from error


async def pages(
    client: Client,
    stream: str,
    where: DeadFilter = ALL,
    *,
    after: str = "",
    form: Form = "whole",
    provider: str = "",
    queue: str = "",
) -> AsyncIterator[Sequence[DeadLetter]]:
    """Yield the current letters that match, page by page, the oldest first. Raises StoreError.

    Letters that are added meanwhile are not included, so a replay ends even if its messages fail again.
    `after` is the entry before the first one. `provider` and `queue` are those of letters that name none.
    """
    if where.reads_messages:
        form = "whole"
    start, end, packed = where.start, where.end, where.packed()
    if after and int(after.partition("-")[0]) / 1000 >= where.since:
        start = f"({after}"
    while start:
        try:
            reply = await script("dead_page").run(
                client, (stream,), start, end, PAGE, PAGE_BYTES, RAW_BYTES, packed, form
            )
        except StoreError as error:
            raise StoreError(f"{stream}: {error}") from error.__cause__
        start, end = reply[0].decode(), reply[1].decode()
        letters = [_letter(stream, provider, queue, *entry) for entry in reply[2:]]
        if where.reads_messages:
            letters = [each for each in letters if where.matches(each.entry, each.queue, each.message)]
        if letters:
            yield letters


async def named(
    client: Client,
    stream: str,
    entries: Sequence[str],
    *,
    form: Form = "whole",
    provider: str = "",
    queue: str = "",
) -> AsyncIterator[Sequence[DeadLetter]]:
    """Yield the letters with these ids that are still there, page by page. Raises StoreError."""
    for first in range(0, len(entries), PAGE):
        page: list[DeadLetter] = []
        for entry in entries[first : first + PAGE]:
            try:
                reply = await script("dead_page").run(
                    client, (stream,), entry, entry, 1, PAGE_BYTES, RAW_BYTES, ALL.packed(), form
                )
            except StoreError as error:
                raise StoreError(f"{stream}: {error}") from error.__cause__
            page += [_letter(stream, provider, queue, *found) for found in reply[2:]]
        if page:
            yield page


async def read(client: Client, stream: str) -> AsyncIterator[DeadLetter]:
    """Yield the current letters, the oldest first. Raises StoreError."""
    async for page in pages(client, stream):
        for letter in page:
            yield letter


async def read_complete(client: Client, letter: DeadLetter) -> DeadLetter | None:
    """Return the letter with its complete raw element; None if it is gone. Raises StoreError."""
    try:
        found: Any = await client.xrange(letter.stream, letter.entry, letter.entry)
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    for entry, fields in found:
        flat = [part for pair in fields.items() for part in pair]
        whole = fields.get(b"raw", b"")
        return _letter(letter.stream, letter.provider, letter.queue, entry, len(whole), *flat)
    return None


async def lock(client: Client, letter: DeadLetter) -> bool:
    """Keep other operators away from a letter for a minute. Returns False if another one is at it. Raises
    StoreError."""
    key = replay_lock(letter.stream, letter.entry)
    return bool(await script("lock").run(client, (key,), "operator", LOCKED))


async def forget(client: Client, stream: str, entries: Sequence[str]) -> int:
    """Delete entries. Returns how many there were. Raises StoreError."""
    try:
        return int(await client.xdel(stream, *entries)) if entries else 0
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error


async def revive(
    client: Client, prefix: str, provider: str, entries: Sequence[str], priority: int | None = None
) -> Revived:
    """Turn letters of a lane into waiting messages, with their own priority or another. Raises StoreError."""
    found = script("revive")
    keys = LaneKeys.of(prefix, provider).of_script(found.lane_parts)
    reply = await found.run(client, keys, "" if priority is None else priority, *entries)
    return Revived(*reply)


async def trim(client: Client, stream: str, *, before: float, most: int) -> int:
    """Delete the letters from before a time (Unix seconds), and the oldest ones beyond `most`, in small
    steps.

    0 turns off either limit. Returns how many were deleted. Raises StoreError.
    """
    trimmed = 0
    limits: list[tuple[str, str | int]] = []
    if before > 0:
        limits.append(("MINID", f"{int(before * 1000)}-0"))
    if most > 0:
        limits.append(("MAXLEN", most))
    try:
        for name, limit in limits:
            step = 1
            while step:
                # Whole nodes of the stream, which is cheap. The exact rest is less than one node.
                step = int(
                    await client.execute_command("XTRIM", stream, name, "~", limit, "LIMIT", TRIM_STEP)
                )
                trimmed += step
            trimmed += int(await client.execute_command("XTRIM", stream, name, "=", limit))
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error
    return trimmed


async def count_trimmed(client: Client, prefix: str, provider: str, number: int) -> None:
    """Add to the lane's counter of deleted letters. Raises StoreError."""
    try:
        await client.execute_command(
            "HINCRBY", LaneKeys.of(prefix, provider).part("control"), "dead_trimmed", number
        )
    except REDIS_ERRORS as error:
        raise StoreError(describe(error)) from error


def _letter(stream: str, provider: str, queue: str, entry: bytes, raw_size: int, *flat: bytes) -> DeadLetter:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    record = fields.get(b"record")
    message = None if record is None else unpack(record)
    own_queue = message.queue if message else fields.get(b"queue", b"").decode("utf-8", "replace")
    return DeadLetter(
        stream=stream,
        entry=entry.decode(),
        at=int(entry.partition(b"-")[0]) / 1000,
        reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
        queue=own_queue or queue,
        message=message,
        raw=fields.get(b"raw", b""),
        raw_size=raw_size,
        attempts=int(fields.get(b"attempts", 0)),
        status=int(fields.get(b"status", 0)),
        body=fields.get(b"body", b""),
        history=attempts.decode(fields.get(b"history", b"")),
        provider=provider,
    )
