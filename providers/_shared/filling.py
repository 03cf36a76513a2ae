"""Fill a template with the values of a message, encoded for the place of each. All pure.

Values stay as the application wrote them: numbers keep their digits, objects their bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from relay.message import PRIORITIES, Message
from relay.settings.template import Part, Reference, Template, parse

LONGEST_URL = 8192
"""Characters of a URL that common servers accept."""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PATH_SAFE = "~!$&'()*+,;=:@"  # RFC 3986, 3.3: characters that a segment may contain
_QUERY_SAFE = "~:@/"
_DOTS = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)
_SEPARATOR = re.compile(r"[/\\]")
_HEADER = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_NOTHING = (None, b"null", b'""')
"""Values that a default replaces. As in a shell, empty ones are among them."""

_encode = msgspec.json.Encoder().encode


class Values:
    """The values of the references for one message."""

    def __init__(self, message: Message, provider: Mapping[str, str], now: float) -> None:
        """`provider` holds the values of `${provider.…}`; `now` is in Unix seconds."""
        self._message = message
        self._payload = message.payload_json
        self._provider = provider
        self._now = now

    def raw(self, reference: Reference) -> bytes:
        """The JSON text. Raises ValueError, which names the field, if it is missing and has no default."""
        found = self._found(reference)
        if reference.default is not None and found in _NOTHING:
            return _as_json(reference.default)
        if found is None:
            raise ValueError(f"{reference}: missing")
        return found

    def text(self, reference: Reference, *, structures: bool = True) -> str:
        """The value as text: a string unchanged, anything else as JSON. Raises ValueError.

        With `structures=False` objects and arrays are refused.
        """
        found = self._found(reference)
        if reference.default is not None and found in _NOTHING:
            return reference.default
        if found is None or found == b"null":
            raise ValueError(f"{reference}: {'missing' if found is None else 'is null'}")
        if found.startswith(b'"'):
            text: str = msgspec.json.decode(found)
            return text
        if found.startswith((b"{", b"[")) and not structures:
            raise ValueError(f"{reference}: must be a text, a number, true or false")
        return found.decode()

    def _found(self, reference: Reference) -> bytes | None:
        first, *steps = reference.path
        match first:
            case "message":
                return self._of_message(steps[0])
            case "provider":
                return self._of_provider(steps[0])
        found = self._payload
        for step in steps:
            field = _FIELDS.decode(found).get(step) if found.startswith(b"{") else None
            if field is None:
                return None
            found = bytes(field)
        return found

    def _of_provider(self, name: str) -> bytes | None:
        value = self._provider.get(name)
        return None if value is None else _encode(value)

    def _of_message(self, name: str) -> bytes | None:
        message = self._message
        value: str | int | None
        match name:
            case "priority":
                value = PRIORITIES[message.priority]
            case "attempt":
                value = message.attempts + 1
            case "ttl":
                left = message.remaining(self._now)
                value = None if left is None else math.floor(left)
            case "created_at" | "expires_at":
                value = int(getattr(message, name)) or None
            case _:
                value = getattr(message, name) or None
        return None if value is None else _encode(value)


def _as_json(default: str) -> bytes:
    """A default that is a number, true, false, null, an array or {} stays so; anything else is a text."""
    try:
        value = msgspec.json.decode(default)
    except (msgspec.DecodeError, ValueError):
        value = default
    return (
        default.strip().encode()
        if isinstance(value, bool | int | float | list | dict | None)
        else _encode(default)
    )


class UrlFiller:
    """A URL whose path and query have gaps. Its host has none, so no message chooses the host."""

    def __init__(self, template: Template) -> None:
        """Raises ValueError for gaps before the path, and for a fragment."""
        first = template.parts[0] if template.parts else ""
        literal = first if isinstance(first, str) else ""
        scheme, separator, rest = literal.partition("://")
        host = re.match(r"[^/?#]*", rest)
        authority = host[0] if host else ""
        if not separator or (len(template.parts) > 1 and authority == rest):
            raise ValueError(
                "must begin with https:// or http:// and a host; a message can fill only the rest"
            )
        if any("#" in part for part in template.parts if isinstance(part, str)):
            raise ValueError("has a fragment (#…), which is never sent")
        self.origin = f"{scheme}://{authority}"
        self._parts = (rest[len(authority) :], *template.parts[1:])
        path = "".join("x" if isinstance(part, Reference) else part for part in self._parts).partition("?")[0]
        if any(_DOTS.fullmatch(segment) for segment in path.split("/")):
            raise ValueError("has . or .. in its path")

    @property
    def sample(self) -> str:
        """The URL with nothing in its gaps."""
        return self.origin + "".join(part for part in self._parts if isinstance(part, str))

    def fill(self, values: Values) -> str:
        """The URL. Values are percent-encoded, so that each stays within its segment or parameter."""
        filled, query = "", False
        for part in self._parts:
            if isinstance(part, str):
                filled += part
                query = query or "?" in part
            else:
                text = values.text(part, structures=False)
                if not text and not query and part.default is None:
                    raise ValueError(f"{part}: is empty, and part of the URL's path")
                if not query and any(map(_DOTS.fullmatch, _segments(text))):
                    # Encoded separators stay in one segment, but some proxies decode them.
                    raise ValueError(f"{part}: a message cannot put . or .. into the path")
                filled += quote(text, safe=_QUERY_SAFE if query else _PATH_SAFE)
        if any(_DOTS.fullmatch(segment) for segment in filled.partition("?")[0].split("/")):
            raise ValueError("url: a message cannot put . or .. into the path")
        if len(self.origin) + len(filled) > LONGEST_URL:
            raise ValueError(
                f"url: {len(self.origin) + len(filled)} characters; at most {LONGEST_URL} are sent"
            )
        return self.origin + filled


def _segments(text: str) -> list[str]:
    """The path segments of a value whose separators are decoded; none if it has no separator."""
    segments = _SEPARATOR.split(text)
    return segments if len(segments) > 1 else []


def fill_header(name: str, template: Template, values: Values) -> str:
    """The value of a header, without space at its ends. Raises ValueError if no header can hold it."""
    filled = _joined(template.parts, values, structures=False)
    if not _HEADER.fullmatch(filled):
        named = ", ".join(str(part) for part in template.parts if isinstance(part, Reference))
        raise ValueError(f"{named}: has line breaks or characters that the header {name} cannot hold")
    return filled.strip(" \t")


def fill_text(template: Template, values: Values) -> str:
    """The text, with objects and arrays as JSON."""
    return _joined(template.parts, values)


def fill_form(form: Mapping[str, Template], values: Values) -> bytes:
    """application/x-www-form-urlencoded."""
    return urlencode([(name, fill_text(template, values)) for name, template in form.items()]).encode()


def compile_json(tree: Any) -> Any:
    """The tree of a JSON body with each of its texts parsed. Raises ValueError."""
    match tree:
        case str():
            return parse(tree)
        case list():
            return [compile_json(item) for item in tree]
        case dict():
            return {key: compile_json(value) for key, value in tree.items()}
    return tree


def fill_json(compiled: Any, values: Values) -> bytes:
    """The JSON of a compiled tree: a text that is one reference becomes the value, of any type."""
    return _encode(_filled(compiled, values))


def _filled(compiled: Any, values: Values) -> Any:
    match compiled:
        case (Reference() as reference,):
            return msgspec.Raw(values.raw(reference))
        case tuple():
            return _joined(compiled, values)
        case list():
            return [_filled(item, values) for item in compiled]
        case dict():
            return {key: _filled(value, values) for key, value in compiled.items()}
    return compiled


def _joined(parts: tuple[Part, ...], values: Values, *, structures: bool = True) -> str:
    return "".join(
        part if isinstance(part, str) else values.text(part, structures=structures) for part in parts
    )
