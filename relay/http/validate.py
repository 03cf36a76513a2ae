"""Request validation: rejects URLs and headers that no HTTP client should get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from relay.http.transport import Unsendable
from relay.text import excerpt

FRAMING_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of the connection and of the framing. A wrong one can end the whole connection."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"(?![ \t])[^\x00-\x08\x0a-\x1f\x7f]*(?<![ \t])")
_SECRET = re.compile(r"//[^/]*@")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise Unsendable for headers that make servers close the connection (RFC 9110, 5; RFC 9113, 8.2)."""
    if reason := _refused_names(tuple(headers)):
        raise Unsendable(f"the request cannot be sent: {reason}")
    # Nearly all values pass this one check, which is cheaper than checking each.
    values = f"|{'|'.join(headers.values())}|"
    if values.isprintable() and (" " not in values or (" |" not in values and "| " not in values)):
        return
    for name, value in headers.items():
        if not _VALUE.fullmatch(value):
            what = "leading or trailing space" if value != value.strip(" \t") else "control characters"
            raise Unsendable(f"the request cannot be sent: the header {excerpt(name)} has {what}")


@lru_cache(maxsize=1024)
def _refused_names(names: tuple[str, ...]) -> str | None:
    for name in names:
        if not _NAME.fullmatch(name):
            return f"{excerpt(name)!r} is not a valid header name"
        if name.lower() in FRAMING_HEADERS:
            return f"the header {name} belongs to the connection"
    return None


def check_origin(url: str) -> None:
    """Raise Unsendable if a URL has no valid host: a client might take another part of it for the host."""
    reason = _refused_origin(origin_of(url))
    if reason is not None:
        raise Unsendable(reason)


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, with credentials if there are any."""
    end = url.find("/", 8)
    return url if end < 0 else url[:end]


@lru_cache(maxsize=1024)
def _refused_origin(origin: str) -> str | None:
    try:
        parts = urlsplit(origin)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"not a URL: {excerpt(_SECRET.sub('//', origin))}: {excerpt(str(error))}"
    if parts.scheme not in ("http", "https") or not host:
        return f"not a URL: {excerpt(_SECRET.sub('//', origin))}"
    try:
        host.encode("idna")
    except UnicodeError:
        return f"not a host name: {excerpt(host)}"
    return None
