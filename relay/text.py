"""Text for people: one printable line, of bounded length, without secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"

LONGEST_REASON = 500
"""Characters of a reason. Longer ones, which providers and messages can send, are cut."""

SHORTEST = 4
"""Characters. Shorter secrets are not hidden, because they would hide ordinary words too."""

_PASSWORD_IN_QUERY = re.compile(r"(?i)((?:password|passwd|secret|token)=)[^&#\s]*")


def one_line(text: str, longest: int = LONGEST_REASON) -> str:
    """The text as one line of printable characters, cut where it is very long."""
    return printable(" ".join(text[: 2 * longest].split()))[:longest]


def printable(text: str, keep: str = "") -> str:
    """The text with escapes (`\\x1b`, `\\u202e`) for what a terminal would obey, if not in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def mask_url(text: str) -> str:
    """The text with the passwords of the URL in it as `***`: rather too much is masked than too little."""
    scheme, separator, rest = text.partition("://")
    credentials, at, host = rest.rpartition("@")
    if at:
        user, colon, _ = credentials.partition(":")
        text = f"{scheme}{separator}{user + colon if colon else ''}***@{host}"
    return _PASSWORD_IN_QUERY.sub(r"\1***", text)


class Redactor:
    """Replaces each of the secrets by `***`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        texts = "|".join(map(re.escape, found))
        self._text = re.compile(texts) if found else None
        self._data = re.compile(texts.encode()) if found else None

    def text(self, text: str) -> str:
        return self._text.sub(HIDDEN, text) if self._text else text

    def data(self, data: bytes) -> bytes:
        return self._data.sub(HIDDEN.encode(), data) if self._data else data
