"""The surroundings of one host that faults change: its installed package and the pipe that takes its log."""

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
"""Bytes: the pipe is full soon when nobody reads it."""


class Package:
    """A copy of relay that one host runs, so that it can be replaced under running processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._originals: dict[Path, bytes] = {}
        for module in (relay, providers):
            (source,) = module.__path__
            target = folder / module.__name__
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)

    def replace(self) -> None:
        """Put other text into every file, as an interrupted upgrade might."""
        for path in [*self.folder.rglob("*.py"), *self.folder.rglob("*.lua")]:
            self._originals[path] = path.read_bytes()
            _write(path, b"this file belongs to another version (\n")

    def restore(self) -> None:
        """Put the files back."""
        for path, text in self._originals.items():
            _write(path, text)
        self._originals.clear()


def _write(path: Path, text: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(text)
    new.replace(path)


class LogPipe:
    """The pipe that a host logs into; a thread copies it to the log file."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._reader = -1
        self._reading = threading.Event()
        self._reading.set()

    def open(self) -> BinaryIO:
        """A new pipe for the next process: its end for writing."""
        self._reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        self._reading.set()
        threading.Thread(target=self._copy, args=(self._reader,), daemon=True).start()
        return os.fdopen(writer, "wb")

    def close(self) -> None:
        """Let every further write fail, until the next process is started."""
        with suppress(OSError):
            os.close(self._reader)

    def stall(self) -> None:
        """Read no more, until `resume`."""
        self._reading.clear()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()

    def _copy(self, reader: int) -> None:
        with self._log.open("ab", buffering=0) as log, suppress(OSError):
            while text := os.read(reader, SMALLEST_PIPE):
                log.write(text)
                self._reading.wait()
