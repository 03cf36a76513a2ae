"""Dead letters: what could not be delivered, with all that is known about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from relay.errors import StoreError
from relay.message import Message
from relay.store.keys import LaneKeys, QueueKeys
from relay.store.record import unpack
from relay.store.scripting import TROUBLE, Client, describe

_PAGE = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry. A malformed element has `raw` and no `message`; `at` is in Unix seconds.

    `stream` is the key that holds it, `entry` its id there.
    """

    stream: str
    entry: str
    at: float
    reason: str
    queue: str
    message: Message | None = None
    raw: bytes = b""
    attempts: int = 0
    status: int = 0
    body: bytes = b""


def lane_stream(prefix: str, provider: str) -> str:
    """The stream of a provider's dead letters."""
    return LaneKeys.of(prefix, provider).part("dead")


def queue_stream(prefix: str, queue: str) -> str:
    """The stream of a queue's elements that belong to no provider."""
    return QueueKeys.of(prefix, queue).rejected


async def read(client: Client, stream: str) -> AsyncIterator[DeadLetter]:
    """All letters of a stream, the oldest first, page by page. Raises StoreError."""
    start = "-"
    while True:
        try:
            page: Any = await client.xrange(stream, start, "+", count=_PAGE)
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
        for entry, fields in page:
            yield _letter(stream, entry.decode(), fields)
        if len(page) < _PAGE:
            return
        start = f"({page[-1][0].decode()}"


async def forget(client: Client, stream: str, entries: list[str]) -> int:
    """Delete entries for good; how many there were. Raises StoreError."""
    try:
        return int(await client.xdel(stream, *entries)) if entries else 0
    except TROUBLE as error:
        raise StoreError(describe(error)) from error


def _letter(stream: str, entry: str, fields: dict[bytes, bytes]) -> DeadLetter:
    record = fields.get(b"record")
    message = None if record is None else unpack(record)
    return DeadLetter(
        stream=stream,
        entry=entry,
        at=int(entry.partition("-")[0]) / 1000,
        reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
        queue=message.queue if message else fields.get(b"queue", b"").decode("utf-8", "replace"),
        message=message,
        raw=fields.get(b"raw", b""),
        attempts=int(fields.get(b"attempts", 0)),
        status=int(fields.get(b"status", 0)),
        body=fields.get(b"body", b""),
    )
