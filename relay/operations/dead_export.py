"""Exports dead letters as JSON, one per line, complete and with their raw bytes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relay.message import PRIORITIES, Message
from relay.operations.dead import DeadScope, list_letters
from relay.operations.dead_documents import MESSAGE_FIELDS
from relay.operations.dead_selection import DeadSelection
from relay.redis_client.client import Client
from relay.store import dead
from relay.store.dead import DeadLetter

LONGEST_ID = 128
"""Characters of an id or a group that a message may have."""

ExportForm = Literal["letters", "messages"]
"""Letters with all details, or only their messages, for `relay push`."""

_encode = msgspec.json.Encoder().encode


@dataclass
class Exported:
    """The number of lines, and of letters that `relay push` cannot read from one line of text."""

    lines: int = 0
    left: int = 0


async def export(
    client: Client,
    scope: DeadScope,
    selection: DeadSelection,
    form: ExportForm,
    write: Callable[[bytes], object],
) -> Exported:
    """Write the letters, one line each. Letters that are deleted meanwhile are left out."""
    exported = Exported()
    async for letter in complete_letters(client, scope, selection):
        line = letter_line(letter) if form == "letters" else message_line(letter)
        if line is None:
            exported.left += 1
        else:
            write(line + b"\n")
            exported.lines += 1
    return exported


async def complete_letters(
    client: Client, scope: DeadScope, selection: DeadSelection
) -> AsyncIterator[DeadLetter]:
    """Yield the letters with complete raw elements, except those that are deleted meanwhile."""
    async for shown in list_letters(client, scope, selection):
        cut = shown.message is None and len(shown.raw) < shown.raw_size
        letter = await dead.read_complete(client, shown) if cut else shown
        if letter is not None:
            yield letter


def letter_line(letter: DeadLetter) -> bytes:
    """Return a letter as one line of JSON. `message` can be passed to `relay push`."""
    document: dict[str, Any] = {
        "id": letter.message.id if letter.message else None,
        "provider": letter.provider or None,
        "queue": letter.queue,
        "entry": letter.entry,
        "at": letter.at,
        "reason": letter.reason,
        "status": letter.status or None,
        "attempts": letter.attempts,
        "history": letter.history,
        **_bytes("body", letter.body),
    }
    if letter.message is None:
        document |= _bytes("raw", letter.raw)
    else:
        document["message"] = _envelope(letter.message, letter.provider)
    return _encode(document)


def message_line(letter: DeadLetter) -> bytes | None:
    """Return the line that `relay push` reads; None for a malformed element that is not one line of text."""
    if letter.message is not None:
        return _encode(_envelope(letter.message, letter.provider))
    line = letter.raw.strip()
    return line if line and b"\n" not in line and _text(line) is not None else None


def _envelope(message: Message, provider: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if len(message.id) <= LONGEST_ID:
        fields["id"] = message.id
    fields["provider"] = provider
    # Line breaks in JSON are white space.
    fields["payload"] = msgspec.Raw(message.payload_json.replace(b"\n", b" ").replace(b"\r", b" "))
    fields["priority"] = PRIORITIES[message.priority]
    for name in (*MESSAGE_FIELDS, "group"):
        value = getattr(message, name)
        if value and not (name == "group" and len(value) > LONGEST_ID):
            fields[name] = value
    return fields


def _bytes(name: str, data: bytes) -> dict[str, str]:
    text = _text(data)
    return {f"{name}_base64": b64encode(data).decode()} if text is None else {name: text}


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
