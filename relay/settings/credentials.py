"""Credentials in headers, payloads and malformed elements, and how these are shown without them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from relay.text import HIDDEN

AUTH_SCHEME = re.compile(r"(?i)(?:basic|bearer|token|vapid) +")
"""The beginning of an Authorization header."""

_NAME = re.compile(r"(?i)auth|cookie|credential|key|passw|secret|session|token")
_MEMBER = re.compile(
    # A name, a colon, and a text that may be cut, a list of texts, or a word.
    r'("(?:[^"\\]|\\.)*")(\s*:\s*)(?:"(?:[^"\\]|\\.)*(?:"|\\?$)|\[[^\]]*(?:\]|$)|[^\s,}\]\[{"]+)'
)
_IN_TEXT = re.compile(r"(?i)auth|cookie|credential|api.?key|passw|secret|session|access.?token")
"""Names of members that are hidden wherever they stand; `token` alone may be a device's."""
_WEBHOOK_SECRET = re.compile(r"whs(?:ec|k)_[A-Za-z0-9+/=]*")


def names_a_secret(name: str) -> bool:
    """Whether a header of this name, or an option, says who somebody is: Authorization, X-Api-Key, Cookie."""
    return _NAME.search(name) is not None


def is_credential(name: str, value: str) -> bool:
    """Whether a header holds credentials, by its name or by a scheme such as `Bearer` in its value."""
    return names_a_secret(name) or AUTH_SCHEME.match(value) is not None


def without_credentials(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A message's payload as it can be shown: without credentials in `headers`, and without `secrets`."""
    shown = dict(payload)
    headers = payload.get("headers")
    if isinstance(headers, Mapping):
        shown["headers"] = {
            name: HIDDEN if is_credential(name, str(value)) else value for name, value in headers.items()
        }
    if "secrets" in payload:
        shown["secrets"] = HIDDEN
    return shown


def text_without_credentials(text: str) -> str:
    """The same for an element that could not be read, so that only its text can be searched.

    Every other character stays as it is.
    """

    def hidden(found: re.Match[str]) -> str:
        return f'{found[1]}{found[2]}"{HIDDEN}"' if _IN_TEXT.search(_unescaped(found[1])) else found[0]

    return _WEBHOOK_SECRET.sub(HIDDEN, _MEMBER.sub(hidden, text))


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted
