"""A provider's response as one line for people, and its JSON. Shared by the adapters."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.provider import Response

LONGEST = 200
"""Characters of a provider's text in a reason."""

_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


def reason(response: Response) -> str:
    """The status and the beginning of the text, on one line and fit for a terminal."""
    # UTF-8 takes at most four bytes for a character, so the rest of a long body is not needed.
    words = response.body[: 8 * LONGEST].decode("utf-8", "replace").split()
    line = " ".join(words)[:LONGEST]
    if line.count(_UNDECODABLE) * 10 > len(line):
        return f"status {response.status} ({response.incomplete or _unreadable(response)})"
    text = "".join(character if character.isprintable() else "?" for character in line)
    return f"{response.status} {text}" if text else f"status {response.status}"


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
