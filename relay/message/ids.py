"""The ids of messages whose application chose none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from random import getrandbits

_VARIANT = 0b10 << 62


def uuid7() -> str:
    """A time-ordered UUID (RFC 9562, section 5.7): unique, no secret."""
    return next(_uuids(time.time_ns() // 1_000_000))


@lru_cache(maxsize=1)
def _uuids(milliseconds: int) -> Iterator[str]:
    """Ids of one millisecond: numbered (section 6.2, method 1), as bits of its own for each take
    four times as long."""
    text = f"{milliseconds:012x}"
    head = f"{text[:8]}-{text[8:]}-7"
    while True:
        tail = f"{getrandbits(62) | _VARIANT:016x}"
        tail = f"-{tail[:4]}-{tail[4:]}"
        for number in range(4096):
            yield f"{head}{number:03x}{tail}"
