"""What the adapters share: a provider's answer as one line for people."""

from __future__ import annotations

from typing import Any

import msgspec

from relay.provider import Response

LONGEST = 200
"""Characters of a provider's text in a reason."""


def reason(response: Response) -> str:
    """The status and the beginning of the text, on one line and fit for a terminal."""
    # Four bytes are the most that UTF-8 takes for a character; the rest of a long body is not looked at.
    words = response.body[: 8 * LONGEST].decode("utf-8", "replace").split()
    line = " ".join(words)[:LONGEST]
    text = "".join(character if character.isprintable() else "?" for character in line)
    return f"{response.status} {text}" if text else f"status {response.status}"


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
