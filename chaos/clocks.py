"""Settable clocks: processes run under libfaketime, which reads the offset from a file."""

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
    """Return the path of libfaketime (Debian's package `libfaketime`); empty if it is not installed."""
    return next((place for place in _PLACES if Path(place).exists()), "")


def settable() -> str:
    """Return the oldest redis-server of this machine: newer ones of Debian use a shared jemalloc, with which
    libfaketime recurses endlessly."""
    found = binaries()
    return found[min(found)]


class Clock:
    """The wall clock of one process. Its monotonic clock stays real."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, seconds: float) -> None:
        """Set the offset from real time in seconds. It takes effect within a second."""
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
        """Return a command that runs `binary` with this clock, as one process."""
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environ().items())
        script.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {binary} "$@"\nexec env {words} {binary} "$@"\n'
        )
        script.chmod(0o755)
        return str(script)
