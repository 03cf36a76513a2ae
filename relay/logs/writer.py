"""Writes log lines in a thread, so that a failing standard error never stops a worker.

A line that cannot be written is dropped and counted, for example if the disk is full, the reader of the pipe
has left, or nobody reads the pipe and the queue is full. Lines stay whole and in order.
"""

from __future__ import annotations

import io
import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

MOST = 4000
"""Maximum number of lines that wait to be written. Further lines are dropped."""


class LogWriter:
    """Neither `write` nor `flush` raises, and `write` never blocks."""

    def __init__(
        self,
        descriptor: int = 2,
        most: int = MOST,
        on_recovery: Callable[[int], None] = lambda lines: None,
    ) -> None:
        """The thread calls `on_recovery` with the number of dropped lines when it can write again."""
        self.descriptor = descriptor
        self._most = most
        self._on_recovery = on_recovery
        # Unlike a Queue it is reentrant: a `__del__` that logs may interrupt it in the same thread.
        self._lines: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._starting = threading.Lock()
        self._running = False
        self._torn = False
        self._overflown = 0
        self._failed = 0
        self._reported = 0

    @property
    def dropped(self) -> int:
        """Return the number of lost lines."""
        return self._overflown + self._failed

    def write(self, line: bytes) -> None:
        """Queue a line, including its line break."""
        if not self._running:
            self._start()
        if self._lines.qsize() >= self._most:
            self._overflown += 1
        else:
            self._lines.put(line)

    def flush(self, seconds: float) -> None:
        """Wait until all queued lines are written, at most this many seconds."""
        if self._running:
            written = threading.Event()
            self._lines.put(written)
            written.wait(seconds)

    def as_text(self) -> io.TextIOWrapper:
        """A stream for libraries that write to standard error on their own."""
        raw = io.BufferedWriter(_Raw(self))
        return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._run, name="log", daemon=True).start()
            self._running = True
        except RuntimeError:  # no more threads: the next line tries again
            self._starting.release()

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
            elif self._is_written(line):
                self._report()

    def _is_written(self, line: bytes) -> bool:
        try:
            self._write(b"\n" + line if self._torn else line)
        except (OSError, ValueError):
            self._failed += 1
            return False
        return True

    def _report(self) -> None:
        # With half of the queue free, the report itself is not dropped, and further drops are unlikely.
        lost = self.dropped - self._reported
        if lost and self._lines.qsize() <= self._most // 2:
            self._reported += lost
            self._on_recovery(lost)

    def _write(self, line: bytes) -> None:
        while line:
            try:
                written = os.write(self.descriptor, line)
            except BlockingIOError:
                # Another program that shares the pipe made it non-blocking.
                select.select((), (self.descriptor,), ())
                continue
            line = line[written:]
            self._torn = bool(line)


class LineLogger:
    """The logger to which structlog passes finished lines."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.write(f"{line}\n".encode("utf-8", "backslashreplace"))

    log = debug = info = warn = warning = fatal = err = error = critical = exception = msg


class _Raw(io.RawIOBase):
    """The writer as a raw stream."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def fileno(self) -> int:
        return self._writer.descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        copy = bytes(data)
        self._writer.write(copy)
        return len(copy)
