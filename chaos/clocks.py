"""Clocks that can be set: libfaketime in front of a process, which reads its offset from a file."""

from __future__ import annotations

import shlex
from pathlib import Path

from testing.redis_server import binaries

_PLACES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)


def library() -> str:
    """Where libfaketime is (Debian's package `libfaketime`); empty: it is not installed."""
    return next((place for place in _PLACES if Path(place).exists()), "")


def settable() -> str:
    """The oldest redis-server of this machine: newer ones of Debian call a shared jemalloc, with which
    libfaketime gets into an endless recursion."""
    found = binaries()
    return found[min(found)]


class Clock:
    """The wall clock of one process; its monotonic clock goes on as it was."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, seconds: float) -> None:
        """So far ahead of the real time (behind it: below 0), within a second."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.2f}\n")
        new.rename(self._file)

    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def wrap(self, binary: str, script: Path) -> str:
        """A command that runs `binary` by this clock, as one process."""
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environ().items())
        script.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {binary} "$@"\nexec env {words} {binary} "$@"\n'
        )
        script.chmod(0o755)
        return str(script)
