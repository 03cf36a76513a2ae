"""What the adapters share: a provider's answer as one line for people."""

from __future__ import annotations

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
