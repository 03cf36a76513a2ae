"""Checks of the host in a URL. A host that no resolver can find would be retried until the end."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LONGEST = 253
_PLAIN = re.compile(r"[A-Za-z0-9:/.\[\]_~%!$&()*+,;=@-]+")


def host_of(url: object) -> str:
    """The host of a URL in lower case, with a port that is not the default; empty if the text is no URL."""
    if not isinstance(url, str):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix(_DEFAULT_PORTS.get(parts.scheme, ":"))


_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def base_url(url: str) -> str:
    """The URL of a server in the configuration, without a slash at its end. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not _PLAIN.fullmatch(url):
        raise ValueError("must be http://HOST or https://HOST, with a port and a path if needed")
    check_host(parts)
    return url.rstrip("/")


def check_host(parts: SplitResult) -> None:
    """Raise ValueError for credentials, and for a host that no resolver can find."""
    if "@" in parts.netloc:
        raise ValueError("must not contain credentials, which others would log; use a header")
    if not parts.hostname or parts.port == 0:
        raise ValueError("has no host, or port 0")
    if not _is_host(parts.hostname, in_brackets="[" in parts.netloc):
        raise ValueError(f"{parts.hostname[:80]!r} is not a valid host")


def _is_host(host: str, *, in_brackets: bool) -> bool:
    try:
        if in_brackets:
            IPv6Address(host)
            return True
        if not host.isascii():
            host = host.encode("idna").decode()
        labels = host.removesuffix(".").split(".")
        if labels[-1].isdigit():
            IPv4Address(host)
    except ValueError:  # UnicodeError is one
        return False
    return len(host) <= _LONGEST and all(map(_LABEL.fullmatch, labels))
