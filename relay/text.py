"""Text for people: one printable line, of bounded length, without secrets. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

HIDDEN = "***"

LONGEST_REASON = 500
"""Characters of a reason. Longer ones, which providers and messages can send, are cut."""

LONGEST_EXCERPT = 200
"""Characters of foreign text, such as an answer of a provider, within a reason."""

LONGEST_QUOTE = 60
"""Characters of a value or a name in an error."""

LATEST = 253_402_300_800.0
"""The end of the year 9999 in Unix seconds."""

SHORTEST = 4
"""Characters. Shorter secrets are not hidden, because they would hide ordinary words too."""

_SIGNING_SECRET = re.compile(
    # As JSON and URLs may write it, with escapes for `/`, `+` and `=`.
    r"whs(?:ec|k)_(?:[A-Za-z0-9+/=_-]|\\+/|\\+u00[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2})+"
)
_SIGNING_SECRET_BYTES = re.compile(_SIGNING_SECRET.pattern.encode())

HIDDEN_PARAMETERS = r"(?i:password|passwd|secret|token)"
"""The names of parameters in URLs whose values are secret."""

_PASSWORD_IN_QUERY = re.compile(rf"({HIDDEN_PARAMETERS}=)[^&#\s]*")


_VARIES = re.compile(
    r"""(?P<status>(?:^|(?<=:\ )|(?<=status\ ))[1-9]\d\d(?!\w))
    | https?://\S+ | "[^"]*" | '[^']*' | \b\w*\d[\w.:-]* | \b[\w-]{24,}""",
    re.VERBOSE,
)
_COMPARED = 200
"""Only this many characters of a reason are compared."""


def alike(reason: str) -> str:
    """Return a text that is equal for reasons that differ only in numbers, ids, URLs and quoted words.

    It keeps a status at the start of the reason, after a colon, or after "status".
    """
    return _VARIES.sub(_status_or_mark, reason[:_COMPARED])


def _status_or_mark(found: re.Match[str]) -> str:
    return found["status"] or "#"


def one_line(text: str, longest: int = LONGEST_REASON) -> str:
    """Return the text as one line of printable characters, cut if it is very long."""
    return printable(" ".join(text[: 2 * longest].split()))[:longest]


def excerpt(text: str) -> str:
    """Return the beginning of foreign text, such as a provider's answer, as one line for a reason."""
    return one_line(text, LONGEST_EXCERPT)


def printable(text: str, keep: str = "") -> str:
    """Return the text with escapes (`\\x1b`, `\\u202e`) for characters that control a terminal.

    Characters in `keep` stay.
    """
    return _escaped(text, keep, _python_escape)


def printable_json(text: str, keep: str = "") -> str:
    """Return the JSON text with JSON's own escapes for such characters: it stays the same document."""
    return _escaped(text, keep, _json_escape)


def _escaped(text: str, keep: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else escape(character) for character in text
    )


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def shortened(text: str, longest: int) -> str:
    """The text with escapes for unprintable characters, cut with `…` if it is long."""
    shown = printable(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def quote(text: str) -> str:
    """Return the text in double quotes on one printable line, shortened, without passwords of URLs."""
    shown = mask_url(text)
    if len(shown) > LONGEST_QUOTE:
        shown = shown[:LONGEST_QUOTE] + "…"
    return printable_json(json.dumps(shown, ensure_ascii=False))


def enumerated(names: Iterable[str], most: int = 10) -> str:
    """Return names as a list for people: `a, b, c`, or the first ones `and 990 more`."""
    found = list(names)
    return (
        ", ".join(found)
        if len(found) <= most
        else f"{', '.join(found[:most])} and {len(found) - most:,} more"
    )


def mask_url(text: str) -> str:
    """Return the text with `***` for the passwords of the URL in it. In doubt, it masks too much."""
    scheme, separator, rest = text.partition("://")
    credentials, at, host = rest.rpartition("@")
    if at:
        user, colon, _ = credentials.partition(":")
        text = f"{scheme}{separator}{user + colon if colon else ''}***@{host}"
    return _PASSWORD_IN_QUERY.sub(r"\1***", text)


def without_userinfo(url: str) -> str:
    """Return the URL without the user and the password before its host."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def hide_signing_secrets(text: str) -> str:
    """The text with `***` instead of each secret that signs webhooks: `whsec_…` and `whsk_…`."""
    return _SIGNING_SECRET.sub(HIDDEN, text) if "whs" in text else text


class Redactor:
    """Replaces each of the secrets, and each `whsec_…` and `whsk_…`, by `***`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        texts = "|".join(map(re.escape, found))
        self._text = re.compile(texts) if found else None
        self._data = re.compile(texts.encode()) if found else None

    def text(self, text: str) -> str:
        if self._text:
            text = self._text.sub(HIDDEN, text)
        return hide_signing_secrets(text)

    def data(self, data: bytes) -> bytes:
        if self._data:
            data = self._data.sub(HIDDEN.encode(), data)
        return _SIGNING_SECRET_BYTES.sub(HIDDEN.encode(), data)


def rfc3339(at: float) -> str:
    """Return Unix seconds as `2026-11-28T03:00:00Z`, also if another program wrote a time out of range."""
    return datetime.fromtimestamp(min(max(at, 0.0), LATEST - 1), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
