"""The filter of dead letters. Redis drops most letters that do not match, `matches` the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from relay.message import Message

_encode = msgspec.msgpack.Encoder().encode

EARLIEST = "-"
"""The start of a stream."""


class DeadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The letters to choose: all conditions apply, and an empty one is none.

    `since` and `until` are in Unix seconds. `reason` and `text` are parts of a text, in upper or lower case;
    `text` may be in the message, the malformed element, the reason or the answer of the provider. `id` is
    that of a letter or of its message.
    """

    id: str = ""
    reason: str = ""
    text: str = ""
    statuses: tuple[int, int] | None = None
    """The lowest and the highest status."""
    group: str = ""
    queue: str = ""
    since: float = 0.0
    until: float = 0.0

    @property
    def is_all(self) -> bool:
        """Whether no condition excludes a letter."""
        return self == ALL

    @property
    def reads_messages(self) -> bool:
        """Whether `matches` needs the message."""
        return bool(self.id or self.group or self.queue)

    @property
    def start(self) -> str:
        """The start of the first page, as in XRANGE."""
        return f"{round(self.since * 1000)}-0" if self.since > 0 else EARLIEST

    @property
    def end(self) -> str:
        """The end of the pages in milliseconds; empty: the newest letter."""
        return str(int(self.until * 1000)) if self.until > 0 else ""

    def packed(self) -> bytes:
        """Return the conditions that `dead_page.lua` checks."""
        parts = [part for part in (self.id, self.group) if part]
        document: dict[str, Any] = {
            "reason": _spellings(self.reason),
            "text": _spellings(self.text),
            "parts": parts,
        }
        if self.statuses is not None:
            document["statuses"] = self.statuses
        return _encode(document)

    def matches(self, entry: str, queue: str, message: Message | None) -> bool:
        """Return whether a letter that Redis has returned matches."""
        if self.id and self.id != entry and (message is None or self.id != message.id):
            return False
        if self.group and (message is None or self.group != message.group):
            return False
        return not self.queue or self.queue == queue


ALL = DeadFilter()


def _spellings(text: str) -> list[str]:
    """Return the ways to write a text in JSON, in lower case as Lua understands it."""
    escaped = json.dumps(text)[1:-1]
    quoted = json.dumps(text, ensure_ascii=False)[1:-1]
    return [_lower(spelling) for spelling in dict.fromkeys((text, quoted, escaped)) if spelling]


def _lower(text: str) -> str:
    """Return the text with ASCII letters in lower case."""
    return "".join(character.lower() if character.isascii() else character for character in text)
