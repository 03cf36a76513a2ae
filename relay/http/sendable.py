"""What can be sent at all: the parts of a request that no client must be given as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from relay.http.reasons import cut
from relay.http.transport import Unsendable

_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that say how a request is framed, not what it asks. A wrong one can end a whole connection."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"(?![ \t])[^\x00-\x08\x0a-\x1f\x7f]*(?<![ \t])")
_SECRET = re.compile(r"//[^/]*@")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise Unsendable for what some servers end the whole connection for (RFC 9110, 5; RFC 9113, 8.2)."""
    if reason := _refused_names(tuple(headers)):
        raise Unsendable(f"the request cannot be sent: {reason}")
    # Nearly all need no closer look, and one for all of them costs less.
    values = f"|{'|'.join(headers.values())}|"
    if values.isprintable() and " |" not in values and "| " not in values:
        return
    for name, value in headers.items():
        if not _VALUE.fullmatch(value):
            what = "space at an end" if value != value.strip(" \t") else "control characters"
            raise Unsendable(f"the request cannot be sent: the header {cut(name)} has {what}")


@lru_cache(maxsize=1024)
def _refused_names(names: tuple[str, ...]) -> str | None:
    for name in names:
        if not _NAME.fullmatch(name):
            return f"{cut(name)!r} cannot be the name of a header"
        if name.lower() in _FRAMING:
            return f"the header {name} belongs to the connection"
    return None


def check_origin(url: str) -> None:
    """Raise Unsendable where a URL leads to no host; a client would look for one elsewhere in it."""
    end = url.find("/", 8)
    reason = _refused_origin(url if end < 0 else url[:end])
    if reason is not None:
        raise Unsendable(reason)


@lru_cache(maxsize=1024)
def _refused_origin(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"not a URL: {cut(_SECRET.sub('//', origin))}: {cut(str(error))}"
    if parts.scheme not in ("http", "https") or not host:
        return f"not a URL: {cut(_SECRET.sub('//', origin))}"
    try:
        host.encode("idna")
    except UnicodeError:
        return f"not a host name: {cut(host)}"
    return None
