"""The worker hosts: each runs `relay run` with its own file, log and connection to Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml

from chaos.configuration import Configuration
from chaos.host_resources import LogPipe, Package
from testing.relay_process import RELAY, environment

READY_TIMEOUT = 180.0
RESTART = 0.3
"""Seconds before a process that has ended is started again."""

STOP_TIMEOUT = 180.0
"""Seconds for an orderly stop: `shutdown_timeout`, releasing messages, and a busy machine."""

UNWANTED = (
    "Traceback",
    '"exception"',
    "Task exception",
    "was never retrieved",
    "wrong number of outcomes",
    "makes no progress",
)
"""Texts that no worker should ever log."""


class Host:
    """One worker host. `start` after `kill` starts a new process on the same host."""

    def __init__(
        self,
        name: str,
        folder: Path,
        configuration: Configuration,
        redis_url: str,
        receivers: Mapping[str, str],
        *,
        processes: int = 1,
        log_pipe: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`log_pipe`: the host logs to a pipe, and its lines are copied to the file."""
        self.name = name
        self.config = folder / f"{name}.yaml"
        self.log = folder / f"{name}.log"
        self._configuration = configuration
        self._redis_url = redis_url
        self._receivers = receivers
        self._processes = processes
        self.package = Package(folder / f"{name}.package")
        self.pipe = LogPipe(self.log) if log_pipe else None
        self._environ = {**(environ or {}), "PYTHONPATH": str(self.package.folder)}
        self._process: asyncio.subprocess.Process | None = None
        self.frozen: list[int] = []
        self.ready = False
        self.deaths: list[str] = []
        self._stopping = False
        self.write_config()

    def write_config(self, *, slower: bool = False) -> None:
        document = self._configuration.document(
            self.name, self._redis_url, self._receivers, processes=self._processes, slower=slower
        )
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))

    def write_bad_config(self) -> None:
        self.config.write_text(
            "queues: [{name: notifications, provider: nobody}]\nproviders: {x: {type: y}}\n"
        )

    async def start(self) -> None:
        """Start it, and return when every process is ready. If it ends before that, for example without
        Redis, start it again, as an init system does."""
        self._stopping = False
        async with asyncio.timeout(READY_TIMEOUT):
            while not await self._start() and not self._stopping:
                await asyncio.sleep(RESTART)  # as an init system does

    async def keep(self) -> None:
        """Restart the host if it ends unexpectedly, and record that."""
        while True:
            await asyncio.sleep(RESTART)  # as an init system does
            if self.ready and not self._stopping and not self.runs and self._process is not None:
                self.deaths.append(f"{self.name} ended unexpectedly with {self._process.returncode}")
                await self.start()

    async def _start(self) -> bool:
        self.ready = False
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") if self.pipe is None else self.pipe.open() as log:
            self._process = await asyncio.create_subprocess_exec(
                *(RELAY, "run", "-c", str(self.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                env=environment(**self._environ),
            )
        while self._times("ready", offset) < self._processes:
            if not self.runs:
                return False
            await asyncio.sleep(0.05)  # polls, because the log is a file
        self.ready = True
        return True

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def pids(self) -> list[int]:
        """Return the processes that do the work: the children of a supervisor, or the only process."""
        if not self.runs:
            return []
        assert self._process is not None
        return _children(self._process.pid) if self._processes > 1 else [self._process.pid]

    def signal(self, number: int) -> None:
        """Send a signal to the process that an operator would signal."""
        if self.runs:
            assert self._process is not None
            with suppress(ProcessLookupError):
                # Process.send_signal() polls first, which can take the exit code away from asyncio's watcher.
                os.kill(self._process.pid, number)

    async def kill(self) -> None:
        """SIGKILL all processes."""
        self._stopping = True
        if self._process is None:
            return
        workers = self.pids()
        self.signal(signal.SIGKILL)
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._process.wait()

    def all_pids(self) -> list[int]:
        """Return all processes, including a supervisor."""
        if not self.runs:
            return []
        assert self._process is not None
        return sorted({self._process.pid, *self.pids()})

    def freeze(self) -> None:
        self.frozen = self.pids()
        for pid in self.frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen = []

    async def stop(self) -> str:
        """Send SIGTERM and wait. Returns the problem, or an empty text."""
        if self._process is None:
            return ""
        self._stopping = True
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                code = await self._process.wait()
        except TimeoutError:
            await self.kill()
            return f"{self.name} did not end within {STOP_TIMEOUT:g} s of SIGTERM"
        return "" if code == 0 else f"{self.name} ended with {code}"

    def unwanted(self) -> list[str]:
        """Return the log lines that should not exist."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [f"{self.name}: {line[-1500:]}" for line in lines if any(word in line for word in UNWANTED)]

    def _times(self, event: str, start: int) -> int:
        """Count the event in the log, from this byte on."""
        with self.log.open("rb") as log:
            log.seek(start)
            lines = log.read().splitlines()
        times = 0
        for line in lines:
            with suppress(ValueError):
                document = json.loads(line)
                times += isinstance(document, dict) and document.get("event") == event
        return times


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(path.parent.name))
    return found
