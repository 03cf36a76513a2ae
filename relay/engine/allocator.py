"""Keeps freed memory for the next fetch, instead of returning it to the system each time."""

from __future__ import annotations

import ctypes

KEPT = 32 << 20
"""Bytes. A fetch and a claim of large messages need some 8 MiB. glibc would return them each time."""

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Let the allocator keep up to `KEPT` bytes of freed memory. Does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, KEPT)
