"""Removal of credentials from headers, payloads and malformed elements before they are shown. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from relay.text import HIDDEN, hide_signing_secrets

AUTH_SCHEME = re.compile(r"(?i)(?:basic|bearer|token|vapid) +")
"""The beginning of an Authorization header."""

_NAME = re.compile(r"(?i)auth|cookie|credential|key|passw|secret|session|token")
_IN_TEXT = re.compile(r"(?i)auth|cookie|credential|api.?key|passw|secret|session|access.?token")
"""Names of members that are always hidden. `token` is not among them, because it may be that of a device."""

REDACTED = "[redacted]"
"""Shown instead of each entry of `secrets`."""


def names_a_secret(name: str) -> bool:
    """Return True if a header or an option with this name contains credentials, such as X-Api-Key."""
    return _NAME.search(name) is not None


def is_credential(name: str, value: str) -> bool:
    """Return True if a header contains credentials, by its name or by a scheme such as `Bearer`."""
    return names_a_secret(name) or AUTH_SCHEME.match(value) is not None


def without_credentials(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a message without credentials in `headers`, and without `secrets`."""
    shown = dict(payload)
    headers = payload.get("headers")
    if isinstance(headers, Mapping):
        shown["headers"] = {
            name: HIDDEN if is_credential(name, str(value)) else value for name, value in headers.items()
        }
    for name, value in payload.items():
        if "secret" in name.lower():
            shown[name] = [REDACTED] * len(value) if isinstance(value, list) else REDACTED
    return shown


def text_without_credentials(text: str) -> str:
    """Return an unreadable element without credentials. Only its text can be searched.

    It finds members of JSON, of Python's and JavaScript's notation, and of JSON inside a text. Every other
    character stays as it is.
    """
    for quote in ('"', "'"):
        if quote in text:
            text = _without_members(text, _TEXTS[quote])
    return hide_signing_secrets(text)


def _texts_in(quote: str) -> re.Pattern[str]:
    """A pattern for a text in these quotes, which may be cut, with a colon if one follows."""
    return re.compile(rf"(?s)({quote}(?:[^{quote}\\]|\\.)*(?:{quote}|\\?$))(\s*:\s*)?")


_TEXTS = {quote: _texts_in(quote) for quote in ('"', "'")}
_PART = re.compile(r"""(?s)"(?:[^"\\]|\\.)*(?:"|\\?$)|'(?:[^'\\]|\\.)*(?:'|\\?$)|[\[{]|[\]}]|[^"'\[\]{}]+""")
"""A text, a bracket, or something else."""
_WORD = re.compile(r"[^\s,}\]]*")


def _without_members(text: str, texts: re.Pattern[str]) -> str:
    parts, at = [], 0
    while found := texts.search(text, at):
        name, colon = found[1], found[2]
        parts.append(text[at : found.start()])
        at = found.end()
        if colon and at < len(text) and _IN_TEXT.search(_unescaped(name)):
            parts.append(f'{found[0]}"{HIDDEN}"')
            at = _end_of_value(text, at)
        else:
            parts.append(_without_inner_members(name) + (colon or ""))
    return "".join([*parts, text[at:]])


def _without_inner_members(quoted: str) -> str:
    """Return a text without credentials if it contains JSON, because an application encoded it twice."""
    if "\\" not in quoted:
        return quoted
    inner = _unescaped(quoted)
    shown = text_without_credentials(inner)
    return quoted if shown == inner else json.dumps(shown, ensure_ascii=False)


def _end_of_value(text: str, start: int) -> int:
    """Return the index after the value that starts here: a text, a word, or a part in brackets."""
    depth, at = 0, start
    if text[start] not in "\"'[{":
        found = _WORD.match(text, start)
        return found.end() if found else start
    while part := _PART.match(text, at):
        at = part.end()
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(part[0], 0)
        if depth <= 0:
            break
    return at


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return re.sub(r"(?s)\\(.)", r"\1", quoted[1:].removesuffix(quoted[0]))
