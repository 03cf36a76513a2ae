"""Response bodies for adapters: unpacked, without a byte order mark, with a limit."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Mapping

from relay.http.transport import BODY_LIMIT

TOO_LONG = f"the body is longer than {BODY_LIMIT // 1024} KiB"
DAMAGED = "the gzip body is damaged"
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def readable(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, str | None]:
    """Return the body, and a description of its missing part (None: nothing is missing).

    relay requests no compression, but some servers and proxies compress anyway.
    """
    problem = TOO_LONG if len(body) > BODY_LIMIT else None
    if body[:2] == _GZIP_MAGIC and "gzip" in headers.get("content-encoding", "").lower():
        unpacker = zlib.decompressobj(_GZIP_WINDOW)
        try:
            body = unpacker.decompress(body, BODY_LIMIT)
        except zlib.error:
            return body[:BODY_LIMIT], DAMAGED
        if not unpacker.eof:
            problem = problem or (TOO_LONG if len(body) == BODY_LIMIT else DAMAGED)
    return body[:BODY_LIMIT].removeprefix(codecs.BOM_UTF8), problem
