"""Takes the replies of Redis (RESP2) out of the bytes of a connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import hiredis
from redis.exceptions import ConnectionError, InvalidResponse


class Replies(Protocol):
    """The bytes of one connection."""

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the replies that are complete, errors too. Raises RedisError for bytes that are no reply."""


class AllReplies:
    """Replies of any kind and length."""

    def __init__(self, parse_error: Any) -> None:
        """`parse_error` makes an exception of the text of an error."""
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=parse_error)

    def feed(self, data: bytes) -> Iterator[Any]:
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            yield reply


class ShortTexts:
    """Replies that are a text, nothing or an error. A text of more than `longest` bytes is dropped piece by
    piece, and yielded as b""."""

    def __init__(self, parse_error: Any, longest: int) -> None:
        self._parse_error = parse_error
        self._longest = longest
        self._left = bytearray()
        """Bytes of a reply that is not complete."""
        self._to_drop = 0
        """Bytes of a long text that are still to come."""

    def feed(self, data: bytes) -> Iterator[Any]:
        self._left += data
        while self._left:
            if self._to_drop:
                dropped = min(self._to_drop, len(self._left))
                del self._left[:dropped]
                self._to_drop -= dropped
                if self._to_drop:
                    return
                yield b""
                continue
            end = self._left.find(b"\r\n")
            if end < 0:
                return
            kind, rest = self._left[:1], bytes(self._left[1:end])
            start = end + 2
            if kind == b"-":
                del self._left[:start]
                yield self._parse_error(rest.decode("utf-8", "replace"))
            elif kind == b"*" and rest == b"-1":
                del self._left[:start]
                yield None
            elif kind != b"$":
                raise ConnectionError(f"unexpected answer: {bytes(self._left[:80])!r}")
            elif (size := int(rest)) < 0:
                del self._left[:start]
                yield None
            elif size > self._longest:
                del self._left[:start]
                self._to_drop = size + 2
            elif len(self._left) < start + size + 2:
                return
            else:
                text = bytes(self._left[start : start + size])
                del self._left[: start + size + 2]
                yield text
