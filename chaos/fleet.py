"""The worker hosts: `relay run` with a file of its own, a log that is kept, and a way to Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml

from chaos.setting import Setting
from chaos.surroundings import LogPipe, Package
from testing.relay_process import RELAY, environment

READY_TIMEOUT = 180.0
RESTART = 0.3
"""Seconds between two starts of a process that ended by itself."""

STOP_TIMEOUT = 180.0
"""Seconds that an orderly end may take: the `shutdown_timeout`, the hand-back, and a busy machine."""

UNWANTED = (
    "Traceback",
    '"exception"',
    "Task exception",
    "was never retrieved",
    "wrong number of outcomes",
    "makes no progress",
)
"""What no log of a worker should hold, whatever happens around it."""


class Host:
    """One worker host. `start` after `kill` is a new process on the same host."""

    def __init__(
        self,
        name: str,
        folder: Path,
        setting: Setting,
        redis_url: str,
        receivers: Mapping[str, str],
        *,
        processes: int = 1,
        log_pipe: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`log_pipe`: it logs into a pipe, from where its lines go to the file."""
        self.name = name
        self.config = folder / f"{name}.yaml"
        self.log = folder / f"{name}.log"
        self._setting = setting
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
        document = self._setting.document(
            self.name, self._redis_url, self._receivers, processes=self._processes, slower=slower
        )
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))

    def write_nonsense(self) -> None:
        self.config.write_text(
            "queues: [{name: notifications, provider: nobody}]\nproviders: {x: {type: y}}\n"
        )

    async def start(self) -> None:
        """Return once every process of it is ready; where it ends before that, as it does where Redis is not
        there, it is started again, as an init system does it."""
        self._stopping = False
        async with asyncio.timeout(READY_TIMEOUT):
            while not await self._start() and not self._stopping:
                await asyncio.sleep(RESTART)  # as the init system waits

    async def keep(self) -> None:
        """Start it again whenever it ends by itself, which it never should."""
        while True:
            await asyncio.sleep(RESTART)  # as the init system waits
            if self.ready and not self._stopping and not self.runs and self._process is not None:
                self.deaths.append(f"{self.name} ended by itself with {self._process.returncode}")
                await self.start()

    async def _start(self) -> bool:
        self.ready = False
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") if self.pipe is None else self.pipe.open() as log:
            self._process = await asyncio.create_subprocess_exec(
                *(RELAY, "run", "-c", str(self.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                env=environment(**self._environ),
            )
        while self._times("ready", said) < self._processes:
            if not self.runs:
                return False
            await asyncio.sleep(0.05)  # its words go into a file
        self.ready = True
        return True

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def pids(self) -> list[int]:
        """The processes that do the work: the children of a supervisor, else the one."""
        if not self.runs:
            return []
        assert self._process is not None
        return _children(self._process.pid) if self._processes > 1 else [self._process.pid]

    def signal(self, number: int) -> None:
        """To the process that an operator would signal."""
        if self.runs:
            assert self._process is not None
            with suppress(ProcessLookupError):
                # Process.send_signal() polls first, which can take the exit code away from asyncio's watcher.
                os.kill(self._process.pid, number)

    async def kill(self) -> None:
        """SIGKILL to all of it."""
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
        """Every process of it, a supervisor included."""
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
        """SIGTERM and wait; what was wrong with the end, or nothing."""
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
        """The lines of its log that should not be there."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [f"{self.name}: {line[-1500:]}" for line in lines if any(word in line for word in UNWANTED)]

    def _times(self, event: str, start: int) -> int:
        """How often the log says this, from a byte of it on."""
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
