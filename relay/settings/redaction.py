"""Secrets out of texts, and texts made fit for a terminal. Pure.

What we write ourselves names no secret. This is for what others say and we pass on: a receiver that
echoes our request in its answer, an exception of a library or of somebody's adapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote

from pydantic import BaseModel, SecretStr

HIDDEN = "***"

SHORTEST = 4
"""Characters; a shorter secret would blot out ordinary words."""

_LINE = 16  # characters of a line of PEM from which on it is a secret by itself
_NAME = re.compile(r"(?i)auth|cookie|credential|key|passw|secret|session|token")
_PASSWORD = re.compile(r"//[^/?#]*?:([^/?#]+)@")
_IN_QUERY = re.compile(r"(?i)(?:password|passwd|secret|token)=([^&#\s]+)")
_SCHEME = re.compile(r"(?i)(?:basic|bearer|token|vapid) +")


class Redactor:
    """Puts `***` in place of each of the secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        texts = "|".join(map(re.escape, found))
        self._text = re.compile(texts) if found else None
        self._data = re.compile(texts.encode()) if found else None

    def text(self, text: str) -> str:
        return self._text.sub(HIDDEN, text) if self._text else text

    def data(self, data: bytes) -> bytes:
        return self._data.sub(HIDDEN.encode(), data) if self._data else data


def secrets_in(value: object, name: str = "") -> Iterator[str]:
    """The secrets below a model: its `Secret`s, and texts in mappings under a name that says so."""
    match value:
        case SecretStr():
            yield from _forms(value.get_secret_value())
        case BaseModel():
            for field in type(value).model_fields:
                yield from secrets_in(getattr(value, field))
        case Mapping():
            for key, entry in value.items():
                yield from secrets_in(entry, str(key))
        case list() | tuple():
            for entry in value:
                yield from secrets_in(entry)
        case str() if names_a_secret(name):
            yield from _forms(_SCHEME.sub("", value, count=1))


def names_a_secret(name: str) -> bool:
    """Whether a header of this name, or an option, says who somebody is: Authorization, X-Api-Key, Cookie."""
    return _NAME.search(name) is not None


def _forms(secret: str) -> Iterator[str]:
    """The ways in which a secret is written. Of a URL only its passwords are one."""
    if "://" in secret:
        found = [*_PASSWORD.findall(secret), *_IN_QUERY.findall(secret)]
        forms = [form for password in found for form in (password, unquote(password))]
    else:
        lines = [line.strip() for line in secret.splitlines()]
        forms = [secret, secret.removeprefix("whsec_"), quote(secret, safe="")]
        forms += [line for line in lines if len(line) >= _LINE and not line.startswith("-----")]
    yield from forms


def one_line(text: str, longest: int = 1000) -> str:
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
