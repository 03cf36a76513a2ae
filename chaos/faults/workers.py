"""What happens to workers and their hosts."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress

from chaos.faults.base import Fault
from chaos.fleet import Host


class OfHost(Fault):
    """A fault of one host."""

    @property
    def host(self) -> Host:
        return self.world.hosts[self.planned.target]


class KillWorker(OfHost):
    """SIGKILL; then somebody starts it again."""

    async def start(self) -> None:
        await self.host.kill()

    async def stop(self) -> None:
        await self.host.start()


class KillSupervisedWorker(OfHost):
    """SIGKILL of one process of several: its supervisor starts another."""

    async def start(self) -> None:
        if pids := self.host.pids():
            with suppress(ProcessLookupError):
                os.kill(random.Random(self.planned.amount).choice(sorted(pids)), signal.SIGKILL)


class Freeze(OfHost):
    """SIGSTOP, and SIGCONT later."""

    async def start(self) -> None:
        self.host.freeze()

    async def stop(self) -> None:
        self.host.thaw()


class HangSupervisedWorker(OfHost):
    """SIGSTOP of one process of several, and no SIGCONT: its supervisor replaces it."""

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
            self.world.broken.append(f"the supervisor did not replace process {self._hung}, which hung")


class RollingRestart(OfHost):
    """SIGTERM, wait for the end, start: as a deployment does it with each host."""

    async def start(self) -> None:
        if trouble := await self.host.stop():
            self.world.broken.append(f"rolling restart: {trouble}")

    async def stop(self) -> None:
        await self.host.start()


class AddAndRemove(Fault):
    """One host more, for a while."""

    async def start(self) -> None:
        await self.world.new_host("w9").start()

    async def stop(self) -> None:
        if trouble := await self.world.hosts["w9"].stop():
            self.world.broken.append(f"removing a host: {trouble}")


class StepClock(OfHost):
    """The host's clock is set, and set right again."""

    async def start(self) -> None:
        step_clock(self, self.planned.target)

    async def stop(self) -> None:
        if clock := self.world.clocks.get(self.planned.target):
            clock.set(0)


def step_clock(fault: Fault, name: str) -> None:
    """By up to 8 s, forward or back."""
    from chaos.faults.base import Skipped

    clock = fault.world.clocks.get(name)
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
