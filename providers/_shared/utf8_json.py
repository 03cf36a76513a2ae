"""JSON without needless escapes: `\\u0436`, as many encoders write it, is three times too long."""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    rb"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\.", re.DOTALL
)
_HIGH, _LOW = 0xD800, 0xDC00


def without_escapes(encoded: bytes) -> bytes:
    """The same JSON with its characters as UTF-8. All else stays as the application wrote it."""
    return _ESCAPE.sub(_as_utf8, encoded) if b"\\u" in encoded else encoded


def _as_utf8(found: re.Match[bytes]) -> bytes:
    high, low, single = found.groups()
    if high is not None:
        code = 0x10000 + ((int(high, 16) - _HIGH) << 10) + (int(low, 16) - _LOW)
    elif single is not None:
        code = int(single, 16)
    else:
        return found[0]
    if code < 0x20 or code in (0x22, 0x5C) or 0xD800 <= code < 0xE000:
        return found[0]  # JSON needs these escapes
    return chr(code).encode()
