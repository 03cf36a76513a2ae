"""Starts several worker processes on one host, sends them their configuration, and replaces them.

Each worker has a link to the supervisor, over which it receives orders and sends a report every second. A
worker that dies or becomes silent is replaced.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from relay.admin.counts import NO_COUNTS
from relay.admin.health import Health, WorkerReport
from relay.engine.link import Link, Orders
from relay.engine.parts import Parts
from relay.engine.slot import Slot, start_process
from relay.store.deployment import ReloadFailure

WRONG_USAGE = 2
"""The exit code of a worker whose configuration or command line is wrong."""

logger = structlog.get_logger()


@dataclass(frozen=True)
class Tuning:
    """Durations are in seconds."""

    check: float = 1.0
    """Wait between two checks for silent workers."""
    silence: float = 30.0
    """Replace a worker after this long without a report: three leases."""
    start: float = 120.0
    """Wait for the first report of a new process."""
    grace: float = 10.0
    """Kill a worker that has not ended this long after `shutdown_timeout`."""
    first_wait: float = 0.5
    """Wait before the first replacement of a worker. It doubles with each further one."""
    longest_wait: float = 30.0
    """The longest wait before a replacement."""
    healthy: float = 60.0
    """After running for this long, the next end of a worker counts as its first one."""


class Supervisor:
    """Keeps as many copies of `command` running as the orders say."""

    def __init__(
        self,
        command: Sequence[str],
        orders: Orders,
        shutdown_timeout: float,
        *,
        until_empty: bool = False,
        on_report: Callable[[Health], None] = lambda health: None,
        tuning: Tuning | None = None,
    ) -> None:
        """`until_empty`: do not replace a worker that ends with exit code 0. `on_report` gets each report of
        a worker."""
        self._command = tuple(command)
        self._orders = orders
        self._shutdown_timeout = shutdown_timeout
        self._until_empty = until_empty
        self._on_report = on_report
        self._tuning = tuning or Tuning()
        self._slots: list[Slot] = []
        self._keepers: set[asyncio.Task[int]] = set()
        self._stopping = False
        self._has_worked = False
        self._previous: Orders | None = None
        """The orders before the last change of the configuration."""
        self.ended = NO_COUNTS
        """The counters of processes that have ended, as of their last reports."""

    @property
    def orders(self) -> Orders:
        """The orders in force."""
        return self._orders

    def reports(self) -> list[WorkerReport]:
        """The last report of each worker."""
        return [slot.report() for slot in self._slots if not slot.leaving.is_set()]

    async def run(self) -> int:
        """Supervise until all workers have ended. Returns the highest of their last exit codes."""
        code = 0
        watcher = asyncio.create_task(Parts().keep("watch", self._watch))
        try:
            self._resize()
            while self._keepers:
                ended, _ = await asyncio.wait(set(self._keepers), return_when=asyncio.FIRST_COMPLETED)
                self._keepers -= ended
                code = max(code, *(keeper.result() for keeper in ended))
        finally:
            watcher.cancel()
        return code

    def update(self, orders: Orders, shutdown_timeout: float) -> None:
        """Send new orders to all workers. Starts or stops workers if their number has changed."""
        if orders.snapshot != self._orders.snapshot:
            self._previous = self._orders
        self._orders = orders
        self._shutdown_timeout = shutdown_timeout
        for slot in self._slots:
            slot.send(orders)
        if self._keepers:
            self._resize()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Forward a signal to all workers, and start no further ones."""
        self._stopping = True
        for slot in self._slots:
            slot.leaving.set()
            slot.signal(number)

    def _resize(self) -> None:
        if self._stopping:
            return
        wanted = self._orders.deployment.processes
        current = [slot for slot in self._slots if not slot.leaving.is_set()]
        for slot in current[wanted:]:
            slot.leaving.set()
            slot.signal(signal.SIGTERM)
        for _ in range(wanted - len(current)):
            slot = Slot()
            self._slots.append(slot)
            self._keepers.add(asyncio.create_task(self._keep(slot)))

    async def _keep(self, slot: Slot) -> int:
        """Run one process after another until the slot is no longer needed. Returns the last exit code."""
        deaths = 0
        try:
            while not slot.leaving.is_set():
                started = time.monotonic()
                code = await self._run_process(slot)
                if slot.leaving.is_set() or (code == 0 and self._until_empty):
                    return max(code or 0, 0)
                if code == WRONG_USAGE and not self._has_worked:
                    self.stop()
                    return code
                if code == WRONG_USAGE:
                    self._fall_back()
                if code == -signal.SIGHUP:
                    continue  # it arrived before the process had its handler
                deaths = 1 if time.monotonic() - started > self._tuning.healthy else deaths + 1
                wait = min(self._tuning.longest_wait, self._tuning.first_wait * 2 ** (deaths - 1))
                if code == 0:
                    logger.info("a worker ended; starting another", seconds=wait)
                elif code is not None:
                    logger.error("a worker died; starting another", exit_code=code, seconds=wait)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await slot.leaving.wait()
            return 0
        finally:
            self._slots.remove(slot)

    def _fall_back(self) -> None:
        """Return to the previous configuration, because a worker cannot start with the new one."""
        previous, self._previous = self._previous, None
        if previous is None:
            return
        logger.error("a worker cannot use the new configuration: the old configuration stays")
        problem = f"{self._orders.snapshot.path}: a worker cannot use it; see its log"
        failed = msgspec.structs.replace(
            previous.deployment,
            reload_failure=ReloadFailure(problem, 0, time.time()),
            reloaded=self._orders.deployment.reloaded,
        )
        self.update(msgspec.structs.replace(previous, deployment=failed), self._shutdown_timeout)
        self._previous = None

    async def _run_process(self, slot: Slot) -> int | None:
        """Start a process and wait for its end. Returns its exit code, or None if the start failed."""
        try:
            process, end = await start_process(self._command)
        except OSError as error:
            logger.error("cannot start a worker; trying again", error=str(error))
            return None
        slot.process_started(process)
        if slot.leaving.is_set():  # a stop that came during the start did not reach it
            slot.signal(signal.SIGTERM)
        listening = asyncio.create_task(self._listen(slot, end))
        try:
            return await self._ended(slot, process)
        finally:
            if slot.health is not None:
                self.ended += slot.health.counts
            slot.process_ended()
            listening.cancel()
            await asyncio.wait({listening})

    async def _listen(self, slot: Slot, end: socket.socket) -> None:
        """Send the process its orders, and receive its reports until it ends."""
        try:
            link = await Link.open(end, Health)
        except OSError as error:  # the worker becomes silent, and is replaced
            logger.error("cannot open the link to a worker", error=str(error))
            end.close()
            return
        with slot.linked(link):
            slot.send(self._orders)
            async for health in link.frames():
                slot.received(health)
                self._on_report(health)
                self._has_worked |= bool(health.worker)

    async def _ended(self, slot: Slot, process: Process) -> int:
        """Wait for the exit code. Kills a process that does not end in time."""
        ended = asyncio.ensure_future(process.wait())
        leaving = asyncio.ensure_future(slot.leaving.wait())
        await asyncio.wait({ended, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not ended.done():
            await asyncio.wait({ended}, timeout=self._shutdown_timeout + self._tuning.grace)
        if not ended.done():
            logger.error("a worker did not end in time; killing it", pid=process.pid)
            slot.kill()
        return await ended

    async def _watch(self) -> None:
        """Kill silent workers, so that they are replaced.

        Only time in which this process itself ran counts, because after a suspension of the host or the
        supervisor the reports of healthy workers are still unread.
        """
        longest = 2 * self._tuning.check
        checked = time.monotonic()
        while True:
            await asyncio.sleep(self._tuning.check)
            now = time.monotonic()
            elapsed, checked = min(now - checked, longest), now
            for slot in self._slots:
                slot.time_passed(elapsed)
                limit = self._tuning.silence if slot.has_reported else self._tuning.start
                if slot.pid and slot.silent > limit:
                    logger.error("a worker is silent; killing it", pid=slot.pid, seconds=round(slot.silent))
                    slot.kill()
