"""What operators do while it runs."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress

from chaos.faults.base import Fault
from chaos.faults.workers import OfHost

REPLACED = 60.0
"""Seconds for a supervisor to start another process, on a busy machine."""


class Reload(Fault):
    """Another rate for one provider, and SIGHUP to every host in turn."""

    async def start(self) -> None:
        self.world.reloads += 1
        slower = self.world.reloads % 2 == 1
        for host in list(self.world.hosts.values()):
            host.write_config(slower=slower)
            if host.ready:  # Python itself has no handler while it starts
                host.signal(signal.SIGHUP)
            await asyncio.sleep(0.05)  # one after the other, as a deployment does it
        # While the last one still has the old file both rates are in use.
        await asyncio.sleep(1)
        self.note = "slower" if slower else "faster"


class ReloadBadFile(Fault):
    """A file that is wrong, SIGHUP, and the right file again."""

    async def start(self) -> None:
        host = self.world.hosts[self.planned.target]
        host.write_nonsense()
        if host.ready:
            host.signal(signal.SIGHUP)
        await asyncio.sleep(0.5)  # so long it could do harm

    async def stop(self) -> None:
        self.world.hosts[self.planned.target].write_config(slower=self.world.reloads % 2 == 1)


class BadReloadThenKill(OfHost):
    """A file that is wrong, SIGHUP, SIGKILL of one process; the supervisor starts another as before."""

    async def start(self) -> None:
        self.host.write_nonsense()
        if not self.host.ready:
            return
        self.host.signal(signal.SIGHUP)
        pids = self.host.pids()
        if not pids:
            return
        victim = random.Random(self.planned.amount).choice(sorted(pids))
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + REPLACED
        while victim in (now := self.host.pids()) or len(now) < len(pids):
            if time.monotonic() > deadline:
                self.world.broken.append(f"no process replaced {victim} after a bad reload")
                return
            await asyncio.sleep(0.05)  # /proc tells nobody when it changes

    async def stop(self) -> None:
        self.host.write_config(slower=self.world.reloads % 2 == 1)
        self.host.signal(signal.SIGHUP)


class PauseAndResume(Fault):
    """`relay pause`, and `relay resume` later."""

    async def start(self) -> None:
        await self._command("pause")

    async def stop(self) -> None:
        await self._command("resume")

    async def _command(self, word: str) -> None:
        for _ in range(40):
            if (await self.world.command(word, self.planned.target)).code == 0:
                return
            await asyncio.sleep(0.2)  # Redis may be in trouble for a moment
        self.world.broken.append(f"relay {word} {self.planned.target} never succeeded")


class DeadRetry(Fault):
    """`relay dead retry` of what will be refused again."""

    async def start(self) -> None:
        self.world.retried += 1
        finished = await self.world.command("dead", "retry", "mending", "--limit", "50")
        self.note = f"exit code {finished.code}"


OPERATORS: dict[str, type[Fault]] = {
    "reload": Reload,
    "reload a bad file": ReloadBadFile,
    "bad reload, then a kill": BadReloadThenKill,
    "pause and resume": PauseAndResume,
    "dead retry": DeadRetry,
}
