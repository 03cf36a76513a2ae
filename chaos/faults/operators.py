"""Actions of operators during the run."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress

from chaos.faults.base import Fault
from chaos.faults.workers import HostFault

REPLACED = 60.0
"""Seconds for a supervisor to start another process, on a busy machine."""


class Reload(Fault):
    """Change the rate of one provider, and send SIGHUP to every host in turn."""

    async def start(self) -> None:
        self.harness.reloads += 1
        slower = self.harness.reloads % 2 == 1
        for host in list(self.harness.hosts.values()):
            host.write_config(slower=slower)
            if host.ready:  # Python has no handler of its own while it starts
                host.signal(signal.SIGHUP)
            await asyncio.sleep(0.05)  # one after the other, as in a deployment
        # Until the last host has the new file, both rates are in use.
        await asyncio.sleep(1)
        self.note = "slower" if slower else "faster"


class ReloadBadFile(Fault):
    """Write a bad file, send SIGHUP, and restore the file."""

    async def start(self) -> None:
        host = self.harness.hosts[self.planned.target]
        host.write_bad_config()
        if host.ready:
            host.signal(signal.SIGHUP)
        await asyncio.sleep(0.5)  # long enough for the bad file to cause harm

    async def stop(self) -> None:
        self.harness.hosts[self.planned.target].write_config(slower=self.harness.reloads % 2 == 1)


class BadReloadThenKill(HostFault):
    """Write a bad file, send SIGHUP, and SIGKILL one process: the supervisor must replace it with the old
    file."""

    async def start(self) -> None:
        self.host.write_bad_config()
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
                self.harness.broken.append(f"no process replaced {victim} after a bad reload")
                return
            await asyncio.sleep(0.05)  # /proc has no notification of changes

    async def stop(self) -> None:
        self.host.write_config(slower=self.harness.reloads % 2 == 1)
        self.host.signal(signal.SIGHUP)


class PauseAndResume(Fault):
    """`relay pause`, and later `relay resume`."""

    async def start(self) -> None:
        await self._command("pause")

    async def stop(self) -> None:
        await self._command("resume")

    async def _command(self, word: str) -> None:
        for _ in range(40):
            if (await self.harness.command(word, self.planned.target)).code == 0:
                return
            await asyncio.sleep(0.2)  # Redis may be failing at the moment
        self.harness.broken.append(f"relay {word} {self.planned.target} never succeeded")


class DeadRetry(Fault):
    """`relay dead retry` of messages that will be refused again."""

    async def start(self) -> None:
        self.harness.retried += 1
        finished = await self.harness.command("dead", "retry", "recovering", "--limit", "50")
        self.note = f"exit code {finished.code}"


OPERATORS: dict[str, type[Fault]] = {
    "reload": Reload,
    "reload a bad file": ReloadBadFile,
    "bad reload, then a kill": BadReloadThenKill,
    "pause and resume": PauseAndResume,
    "dead retry": DeadRetry,
}
