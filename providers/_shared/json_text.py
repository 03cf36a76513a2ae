"""Text templates that are JSON. No value can change the structure of the text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from relay.settings.template import Part, Reference

from .filling import Values

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Gap:
    """A reference, and whether it stands within a JSON string."""

    reference: Reference
    quoted: bool


def compile_json_text(parts: Sequence[Part]) -> tuple[str | Gap, ...] | None:
    """The parts of an object or array that is written as text; None if the text is not JSON."""
    compiled: list[str | Gap] = []
    sample, quoted = "", False
    for part in parts:
        if isinstance(part, Reference):
            compiled.append(Gap(part, quoted))
            sample += "" if quoted else "null"
        else:
            compiled.append(part)
            sample += part
            quoted = _ends_quoted(part, quoted)
    if not sample.lstrip().startswith(("{", "[")):
        return None
    try:
        msgspec.json.decode(sample)
    except (msgspec.DecodeError, RecursionError):
        return None
    return tuple(compiled)


def fill_json_text(compiled: Sequence[str | Gap], values: Values) -> bytes:
    """A value within a string is escaped; any other is its JSON, as the application wrote it."""
    return b"".join([part.encode() if isinstance(part, str) else _filled(part, values) for part in compiled])


def _filled(gap: Gap, values: Values) -> bytes:
    return _encode(values.text(gap.reference))[1:-1] if gap.quoted else values.raw(gap.reference)


def _ends_quoted(text: str, quoted: bool) -> bool:
    """Return whether a JSON text that began within a string (or not) ends within one."""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and quoted:
            escaped = True
        elif character == '"':
            quoted = not quoted
    return quoted
