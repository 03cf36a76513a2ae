"""Parts of error messages that all clients share."""

from __future__ import annotations

import errno
import os

from relay.text import excerpt


def host_of(url: str) -> str:
    """Return host and port of any URL, even an invalid one, without credentials, as one printable line."""
    rest = url.partition("://")[2]
    for end in "/?#":
        rest = rest.partition(end)[0]
    return excerpt(rest.rpartition("@")[2])


def text_of(number: int) -> str:
    """Return the text of an error number, in lower case."""
    return WORDS.get(number) or os.strerror(number).lower()


WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "the network is unreachable",
    errno.ETIMEDOUT: "no answer from the host",
    errno.EMFILE: "too many open files in this process",
    errno.ENFILE: "too many open files on this host",
    errno.EADDRNOTAVAIL: "no free local port",
}


EXHAUSTED = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENOSPC}
)
"""Errno values that mean that this process or this host has run out of a resource."""


def is_exhaustion(error: BaseException) -> bool:
    """Return whether an error means that this process or this host has run out of a resource."""
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno in EXHAUSTED
        case RuntimeError():
            return "can't start new thread" in str(error)
    return False


def has_no_descriptor() -> bool:
    """Return whether this process has no free descriptor. Libraries may report another cause."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return is_exhaustion(error)
    return False
