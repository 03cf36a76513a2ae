"""Parts of a host that faults change: its installed package and its log pipe."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import providers
import relay

SMALLEST_PIPE = 4096
"""Bytes. The pipe is full soon if it is not read."""


class Package:
    """A copy of relay for one host, so that it can be replaced under running processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._originals: dict[Path, bytes] = {}
        for module in (relay, providers):
            (source,) = module.__path__
            target = folder / module.__name__
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)

    def replace(self) -> None:
        """Overwrite every file, as an interrupted upgrade might."""
        for path in [*self.folder.rglob("*.py"), *self.folder.rglob("*.lua")]:
            self._originals[path] = path.read_bytes()
            _write(path, b"this file belongs to another version (\n")

    def restore(self) -> None:
        """Restore the files."""
        for path, text in self._originals.items():
            _write(path, text)
        self._originals.clear()


def _write(path: Path, text: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(text)
    new.replace(path)


class LogPipe:
    """The log pipe of a host. A thread copies it to the log file."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._reader = -1
        self._reading = threading.Event()
        self._reading.set()

    def open(self) -> BinaryIO:
        """Create a pipe for the next process, and return its writing end."""
        self._reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        self._reading.set()
        threading.Thread(target=self._copy, args=(self._reader,), daemon=True).start()
        return os.fdopen(writer, "wb")

    def close(self) -> None:
        """Make all further writes fail, until the next process starts."""
        with suppress(OSError):
            os.close(self._reader)

    def stall(self) -> None:
        """Stop reading until `resume`."""
        self._reading.clear()

    def resume(self) -> None:
        """Continue reading."""
        self._reading.set()

    def _copy(self, reader: int) -> None:
        with self._log.open("ab", buffering=0) as log, suppress(OSError):
            while text := os.read(reader, SMALLEST_PIPE):
                log.write(text)
                self._reading.wait()
