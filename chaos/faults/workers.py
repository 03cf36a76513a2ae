"""Faults of workers and their hosts."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress

from chaos.faults.base import Fault, Skipped
from chaos.fleet import Host


class HostFault(Fault):
    """A fault of one host."""

    @property
    def host(self) -> Host:
        return self.harness.hosts[self.planned.target]


class KillWorker(HostFault):
    """SIGKILL, and a restart."""

    async def start(self) -> None:
        await self.host.kill()

    async def stop(self) -> None:
        await self.host.start()


class KillSupervisedWorker(HostFault):
    """SIGKILL of one of several processes: its supervisor starts another."""

    async def start(self) -> None:
        if pids := self.host.pids():
            with suppress(ProcessLookupError):
                os.kill(random.Random(self.planned.amount).choice(sorted(pids)), signal.SIGKILL)


class Freeze(HostFault):
    """SIGSTOP, and later SIGCONT."""

    async def start(self) -> None:
        self.host.freeze()

    async def stop(self) -> None:
        self.host.thaw()


class HangSupervisedWorker(HostFault):
    """SIGSTOP of one of several processes, without SIGCONT: its supervisor replaces it."""

    async def start(self) -> None:
        self._hung: int | None = None
        if pids := self.host.pids():
            self._hung = random.Random(self.planned.amount).choice(sorted(pids))
            with suppress(ProcessLookupError):
                os.kill(self._hung, signal.SIGSTOP)

    async def stop(self) -> None:
        if self._hung is not None and self._hung in self.host.pids():
            with suppress(ProcessLookupError):
                os.kill(self._hung, signal.SIGCONT)
            self.harness.broken.append(f"the supervisor did not replace process {self._hung}, which hung")


class RollingRestart(HostFault):
    """SIGTERM, wait, start: as in a deployment."""

    async def start(self) -> None:
        if trouble := await self.host.stop():
            self.harness.broken.append(f"rolling restart: {trouble}")

    async def stop(self) -> None:
        await self.host.start()


class AddAndRemove(Fault):
    """An additional host for a while."""

    async def start(self) -> None:
        await self.harness.new_host("w9").start()

    async def stop(self) -> None:
        if trouble := await self.harness.hosts["w9"].stop():
            self.harness.broken.append(f"removing a host: {trouble}")


class StepClock(HostFault):
    """The host's clock is stepped, and later set right."""

    async def start(self) -> None:
        step_clock(self, self.planned.target)

    async def stop(self) -> None:
        if clock := self.harness.clocks.get(self.planned.target):
            clock.set(0)


def step_clock(fault: Fault, name: str) -> None:
    """Step a clock by up to 8 s, forwards or backwards."""
    clock = fault.harness.clocks.get(name)
    if clock is None:
        raise Skipped("libfaketime is not installed")
    seconds = round(fault.planned.amount * 16 - 8, 1)
    clock.set(seconds)
    fault.note = f"by {seconds:+.1f} s"


WORKERS: dict[str, type[Fault]] = {
    "kill worker": KillWorker,
    "kill worker of supervisor": KillSupervisedWorker,
    "kill supervisor and group": KillWorker,
    "freeze worker": Freeze,
    "freeze beyond lease": Freeze,
    "hang worker of supervisor": HangSupervisedWorker,
    "rolling restart": RollingRestart,
    "add and remove a host": AddAndRemove,
    "step worker clock": StepClock,
}
