"""Several worker processes on one host: starts them, restarts a dead one, forwards signals.

The workers share nothing but Redis, so that the supervisor needs to know nothing about their work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Sequence

import structlog

LONGEST_WAIT = 30.0
"""Seconds between two starts of a worker that keeps dying."""

HEALTHY = 60.0
"""Seconds of life after which a death counts as the first one again."""

GRACE = 10.0
"""Seconds beyond `shutdown_timeout` after which a worker that does not end is killed."""

SUPERVISED = "RELAY_SUPERVISED"
"""Set in a worker's environment: it ends itself when its supervisor is gone."""

logger = structlog.get_logger()


class Supervisor:
    """Keeps `processes` copies of `command` running."""

    def __init__(self, command: Sequence[str], processes: int, shutdown_timeout: float) -> None:
        self._command = tuple(command)
        self._processes = processes
        self._patience = shutdown_timeout + GRACE
        self._running: dict[int, Process] = {}
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Supervise until all have ended; the highest of their last exit codes."""
        codes = await asyncio.gather(*(self._keep(slot) for slot in range(self._processes)))
        return max(codes)

    def forward(self, number: signal.Signals) -> None:
        """Pass a signal on to all workers; SIGTERM and SIGINT also end the supervision."""
        if number != signal.SIGHUP:
            self._stop.set()
        for process in self._running.values():
            process.send_signal(number)

    async def _keep(self, slot: int) -> int:
        deaths = 0
        while not self._stop.is_set():
            started = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, SUPERVISED: str(os.getpid())},
                # Ctrl-C reaches the supervisor alone, which passes it on once.
                start_new_session=True,
            )
            self._running[slot] = process
            if self._stop.is_set():  # it came too late to be told with the others
                process.terminate()
            try:
                code = await self._wait(process)
            finally:
                del self._running[slot]
            # 0: it had nothing left to do. 2: its configuration is wrong, and stays so.
            if self._stop.is_set() or code in (0, 2):
                return max(code, 0)
            if code == -signal.SIGHUP:
                continue  # it had not come as far as its handler; the next one reads the file as it is now
            deaths = 1 if time.monotonic() - started > HEALTHY else deaths + 1
            wait = min(LONGEST_WAIT, 0.25 * 2**deaths)
            logger.error("a worker died; starting another", pid=process.pid, exit_code=code, seconds=wait)
            try:
                async with asyncio.timeout(wait):
                    await self._stop.wait()
                return 0
            except TimeoutError:
                continue
        return 0

    async def _wait(self, process: Process) -> int:
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            await asyncio.wait({ended}, timeout=self._patience)
        if not ended.done():
            logger.error("a worker did not end in time; killing it", pid=process.pid)
            process.kill()
        return await ended


async def ends_without_supervisor(stop: asyncio.Event) -> None:
    """In a worker: set `stop` when the process that started it is gone."""
    parent = os.environ.get(SUPERVISED)
    while parent is not None:
        if os.getppid() != int(parent):
            logger.error("the supervisor is gone: stopping")
            stop.set()
            return
        await asyncio.sleep(1)
