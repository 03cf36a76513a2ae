"""A provider's response as one line for people, and its JSON. Shared by the adapters."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.provider import Response
from relay.text import LONGEST_EXCERPT, excerpt

_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


def reason(response: Response) -> str:
    """The status and the beginning of the text, on one line and fit for a terminal."""
    # UTF-8 takes at most four bytes for a character, so the rest of a long body is not needed.
    line = excerpt(response.body[: 8 * LONGEST_EXCERPT].decode("utf-8", "replace"))
    if line.count(_UNDECODABLE) * 10 > len(line):
        return f"status {response.status} ({response.incomplete or _unreadable(response)})"
    return f"{response.status} {line}" if line else f"status {response.status}"


def _unreadable(response: Response) -> str:
    encoding = response.headers.get("content-encoding", "")[:20]
    if encoding and encoding.isascii() and encoding.isprintable():
        return f"its body is encoded as {encoding}"
    return "its body is not text"


def decoded(body: bytes) -> Any:
    """The JSON of an answer; None if it is none, or nested too deeply."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer; empty if it is none."""
    found = decoded(body)
    return found if isinstance(found, dict) else {}
