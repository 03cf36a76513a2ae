"""The place of one worker under a supervisor, in which one process runs after another."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from relay.admin.health import Health, WorkerReport
from relay.engine.link import DESCRIPTOR, Link, Orders


class Slot:
    """The place of one worker. The supervisor starts its processes."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        """Set when no further process is needed."""
        self.silent = 0.0
        """Seconds since the last report of this process, its start, or an attempt to kill it."""
        self._process: Process | None = None
        self._link: Link[Health] | None = None
        self.health: Health | None = None
        """The last report of the present process."""
        self._age = 0.0
        """Seconds since the last report of any process in this slot."""

    @property
    def pid(self) -> int:
        """The present process; 0 if none is running."""
        return self._process.pid if self._process else 0

    @property
    def has_reported(self) -> bool:
        """Whether the present process has sent a report."""
        return self.health is not None

    def report(self) -> WorkerReport:
        """Return the last report."""
        return WorkerReport(pid=self.pid, age=round(self._age, 1), health=self.health)

    def process_started(self, process: Process) -> None:
        """A new process runs in this slot."""
        self._process, self.health, self.silent = process, None, 0.0

    def process_ended(self) -> None:
        """No process runs in this slot."""
        self._process = self.health = None

    @contextmanager
    def linked(self, link: Link[Health]) -> Iterator[None]:
        """Use a link to the process for `send`, and close it at the end."""
        self._link = link
        try:
            yield
        finally:
            self._link = None
            link.close()

    def send(self, orders: Orders) -> None:
        """Send orders to the process. A process without a link gets them when it has one."""
        if self._link is not None:
            self._link.send(orders)

    def received(self, health: Health) -> None:
        """The process has sent a report."""
        self.health = health
        self._age = self.silent = 0.0

    def time_passed(self, seconds: float) -> None:
        """Count the time since the last report."""
        self._age += seconds
        self.silent += seconds

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                # Process.send_signal() polls first. If the process has just ended, that poll takes its exit
                # code away from asyncio's watcher, which then reports 255.
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill the process and its children: each worker leads a process group of its own."""
        self.silent = 0.0
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


async def start_process(command: Sequence[str]) -> tuple[Process, socket.socket]:
    """Start a worker. Returns its process and our end of its link. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, DESCRIPTOR: str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            # Ctrl-C reaches only the supervisor, which forwards it once.
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours
