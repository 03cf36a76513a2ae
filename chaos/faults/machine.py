"""Faults of the machine under a worker: its disk, its log, its descriptors, its installed package."""

from __future__ import annotations

import resource
from abc import abstractmethod
from contextlib import suppress
from pathlib import Path

from chaos.faults.workers import OfHost


class Limited(OfHost):
    """A resource limit of every process of a host, for a while."""

    limit = resource.RLIMIT_NOFILE

    @abstractmethod
    def most(self, pid: int) -> int:
        """The new soft limit of one process."""

    async def start(self) -> None:
        self._before: dict[int, tuple[int, int]] = {}
        for pid in self.host.all_pids():
            with suppress(ProcessLookupError, FileNotFoundError):
                before = resource.prlimit(pid, self.limit)
                resource.prlimit(pid, self.limit, (self.most(pid), before[1]))
                self._before[pid] = before

    async def stop(self) -> None:
        # A process that was started meanwhile by a supervisor has its limit.
        inherited = next(iter(self._before.values()), None)
        for pid in self.host.all_pids():
            if before := self._before.get(pid, inherited):
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, self.limit, before)


class FullLogDisk(Limited):
    """No file may grow any more: each write to the log fails."""

    limit = resource.RLIMIT_FSIZE

    def most(self, pid: int) -> int:
        return 0


class FewDescriptors(Limited):
    """At most one descriptor more than are open: no new connection, no new file."""

    def most(self, pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir())) + round(self.planned.amount)


class ClosedLogPipe(OfHost):
    """Nobody will ever read the log again, until the next restart."""

    async def start(self) -> None:
        assert self.host.pipe is not None
        self.host.pipe.close()


class StalledLogPipe(OfHost):
    """Nobody reads the log for a while."""

    async def start(self) -> None:
        assert self.host.pipe is not None
        self.host.pipe.stall()

    async def stop(self) -> None:
        assert self.host.pipe is not None
        self.host.pipe.resume()


class PackageReplaced(OfHost):
    """Every file of the installed package is another one, for a while."""

    async def start(self) -> None:
        self.host.package.replace()

    async def stop(self) -> None:
        self.host.package.restore()


MACHINE = {
    "full log disk": FullLogDisk,
    "few descriptors": FewDescriptors,
    "closed log pipe": ClosedLogPipe,
    "log pipe that nobody reads": StalledLogPipe,
    "package replaced": PackageReplaced,
}
