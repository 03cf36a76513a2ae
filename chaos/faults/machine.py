"""Faults of the machine under a worker: its disk, its log, its descriptors, its installed package."""

from __future__ import annotations

import resource
from abc import abstractmethod
from contextlib import suppress
from pathlib import Path

from chaos.faults.workers import HostFault


class ResourceLimitFault(HostFault):
    """A temporary resource limit for every process of a host."""

    limit = resource.RLIMIT_NOFILE

    @abstractmethod
    def most(self, pid: int) -> int:
        """Return the new soft limit of one process."""

    async def start(self) -> None:
        self._before: dict[int, tuple[int, int]] = {}
        for pid in self.host.all_pids():
            with suppress(ProcessLookupError, FileNotFoundError):
                before = resource.prlimit(pid, self.limit)
                resource.prlimit(pid, self.limit, (self.most(pid), before[1]))
                self._before[pid] = before

    async def stop(self) -> None:
        # A process that the supervisor has started meanwhile inherited the limit.
        inherited = next(iter(self._before.values()), None)
        for pid in self.host.all_pids():
            if before := self._before.get(pid, inherited):
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, self.limit, before)


class FullLogDisk(ResourceLimitFault):
    """No file can grow: each write to the log fails."""

    limit = resource.RLIMIT_FSIZE

    def most(self, pid: int) -> int:
        return 0


class FewDescriptors(ResourceLimitFault):
    """At most one more descriptor than are open: no new connection, no new file."""

    def most(self, pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir())) + round(self.planned.amount)


class ClosedLogPipe(HostFault):
    """The reader of the log is gone until the next restart."""

    async def start(self) -> None:
        assert self.host.pipe is not None
        self.host.pipe.close()


class StalledLogPipe(HostFault):
    """The reader of the log pauses."""

    async def start(self) -> None:
        assert self.host.pipe is not None
        self.host.pipe.stall()

    async def stop(self) -> None:
        assert self.host.pipe is not None
        self.host.pipe.resume()


class PackageReplaced(HostFault):
    """Every file of the installed package is replaced for a while."""

    async def start(self) -> None:
        self.host.package.replace()

    async def stop(self) -> None:
        self.host.package.restore()


MACHINE = {
    "full log disk": FullLogDisk,
    "few descriptors": FewDescriptors,
    "closed log pipe": ClosedLogPipe,
    "blocked log pipe": StalledLogPipe,
    "package replaced": PackageReplaced,
}
