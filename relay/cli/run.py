"""`relay run`: one worker, or a supervisor with several."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import structlog
import typer

from relay import logs, tasks
from relay.admin.counts import NO_COUNTS
from relay.admin.health import WorkerReport
from relay.cli import common
from relay.cli.configuration import ConfigurationFile, Loaded, adapters
from relay.cli.reload_log import ReloadLog
from relay.cli.reload_requests import ReloadRequests
from relay.cli.service_manager import ServiceManager
from relay.cli.supervise import HANGUP, supervise
from relay.engine.link import Link, Orders, first_orders, inherited
from relay.errors import ConfigError, StoreError, UsageError
from relay.provider import discover
from relay.settings.load import restore
from relay.settings.models import Settings
from relay.settings.redaction import secrets_in
from relay.settings.snapshot import Snapshot
from relay.store.deployment import Deployment, ReloadFailure
from relay.store.drain import DrainOrder
from relay.text import one_line

if TYPE_CHECKING:
    from relay.engine.stall import StallWatch
    from relay.engine.worker import Worker
    from relay.redis_client.client import Client

REPORT_INTERVAL = 1.0
"""Seconds between two health reports of a worker to its supervisor."""

FIRST_REPORT_INTERVAL = 0.1
"""Seconds between two reports until the worker has joined the fleet."""

logger = structlog.get_logger()

EXIT_TIMEOUT = 5.0
"""The process ends this many seconds after its work at the latest, even if threads of libraries still run."""

REFUSED_PAUSE = 2.0
"""Seconds until a worker tries again if Redis refused it after a reload."""


def run(
    context: typer.Context,
    config: common.ConfigOption = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", "-p", min=1, help="Number of worker processes. Default: `processes` of the file."
        ),
    ] = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Exit once every queue and every lane is empty.")
    ] = False,
) -> None:
    """Run the workers: send messages from the queues to the providers.

    SIGTERM or Ctrl-C: claim no more, finish requests in flight within `shutdown_timeout`, release all other
    messages, exit with code 0. A second signal ends the process immediately; no message is lost. SIGHUP:
    reload the file; if it has mistakes, the old configuration stays.

    Example: `relay run -c relay.yaml`
    """
    # A signal without a handler would end the process, so block it until there is one.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANGUP)
    end = inherited()
    if end is not None:
        common.run(_run_under_supervisor(end, until_empty=until_empty), common.fastest_loop())
        return
    file = ConfigurationFile(common.config_path(context, config))
    loaded = file.load()
    _configure_logs(loaded.settings)

    def number_of(settings: Settings) -> int:
        wanted = processes or settings.processes
        return len(os.sched_getaffinity(0)) if wanted == "auto" else wanted

    if number_of(loaded.settings) == 1:
        common.run(_run_alone(file, loaded, until_empty=until_empty), common.fastest_loop())
    else:
        command = [sys.executable, "-m", "relay", "run", "-c", str(file.path)]
        command += ["--until-empty"] if until_empty else []
        raise typer.Exit(
            common.run(
                supervise(file, loaded, command, number_of, until_empty=until_empty), common.fastest_loop()
            )
        )


def _configure_logs(settings: Settings) -> None:
    logs.configure(
        settings.log.level, settings.log.format, secrets_in(settings), writer=logs.background_writer()
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """A change for a worker. `settings` is None if they stay the same."""

    settings: Settings | None
    deployment: Deployment


class _Runner:
    """A worker that is replaced whenever its settings change."""

    def __init__(self, settings: Settings, deployment: Deployment) -> None:
        self.worker: Worker | None = None
        self._settings = settings
        self.deployment = deployment
        self._drained: DrainOrder | None = None
        """The order to take no messages that was in force at the end of the worker before this one."""
        self._earlier = NO_COUNTS
        """The counters of the workers before this one."""
        self._next: Settings | None = None
        self._stop = asyncio.Event()
        self._over = asyncio.Event()
        """Set to end the current worker."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def reports(self) -> list[WorkerReport]:
        """The present state of the worker, if there is one."""
        if self.worker is None:
            return []
        health = self.worker.health()
        return [WorkerReport(pid=health.pid, age=0.0, health=health)]

    def stop(self) -> None:
        self._stop.set()
        self._over.set()

    def on_signal(self, number: signal.Signals) -> None:
        """Stop; the second signal ends the process immediately."""
        if self._stop.is_set():
            # The messages of this process are on its own lists in Redis, and are recovered from there.
            logs.flush()
            os._exit(128 + number)
        self.stop()

    async def follow(self, changes: AsyncIterator[_Change]) -> None:
        """Apply changes until their iterator ends."""
        async for change in changes:
            self.deployment = change.deployment
            if change.settings is not None:
                # The next worker publishes the deployment, because the present one has the old settings.
                self._next = change.settings
                self._over.set()
            elif self.worker is not None:
                self.worker.redeploy(change.deployment)

    async def run(self, *, until_empty: bool) -> None:
        """Run workers until stopped, or until all queues and lanes are empty."""
        # The engine takes long to import, and neither other commands nor the supervisor need it.
        from relay.cli.advice import log_findings
        from relay.engine import (
            allocator,
            stall,
            worker,  # noqa: F401 - loads its modules before the garbage collector freezes them
        )

        # Imported modules stay in memory: exempt them from garbage collection.
        gc.freeze()
        # The garbage of a message has no cycles: reference counts free it, so collect rarely.
        gc.set_threshold(10_000)
        allocator.keep_freed_memory()
        async with AsyncExitStack() as stack:
            client = await tasks.run_until(
                self._stop, stack.enter_async_context(common.redis(self._settings, self._read_url))
            )
            if client is None:
                return
            if not self.deployment.supervisor:
                findings = asyncio.create_task(log_findings(client, self._settings))
                stack.callback(findings.cancel)
            watch = stall.StallWatch(stall.TUNING)
            watch.start()
            code = 1
            try:
                await self._serve(client, watch, until_empty=until_empty)
                code = 0
            finally:
                watch.expect_exit(EXIT_TIMEOUT, code)

    def _read_url(self) -> str:
        """Return the URL of the current settings, because a reload may change the password."""
        return self._settings.redis.read_url()

    async def _serve(self, client: Client, watch: StallWatch, *, until_empty: bool) -> None:
        """Run one worker after the other, each with the current settings."""
        from relay.engine.worker import Worker

        before: Settings | None = None
        while True:
            try:
                self.worker = Worker(
                    self._settings,
                    discover(),
                    client,
                    self.deployment,
                    on_turn=watch.turned,
                    earlier=self._earlier,
                    drained=self._drained,
                )
                try:
                    end = await self.worker.run(self._over, until_empty=until_empty)
                finally:
                    self._earlier = self.worker.health().counts_of_worker
                    self._drained = self.worker.drain_order
                if end == "resumed" and not self._over.is_set():
                    continue
            except UsageError as error:
                if before is None:
                    raise
                logger.error(
                    "the new configuration cannot be used: the old configuration stays", error=str(error)
                )
                self._settings, before = before, None
                failure = ReloadFailure(one_line(str(error)), 0, time.time())
                self.deployment = msgspec.structs.replace(self.deployment, reload_failure=failure)
                continue
            except StoreError as error:
                if before is None:
                    raise
                logger.error("Redis refuses this worker; it tries again", error=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(REFUSED_PAUSE):
                        await self._over.wait()
                if not self._over.is_set():
                    continue
            if self._stop.is_set() or self._next is None:
                return
            self._over.clear()
            before, self._settings, self._next = self._settings, self._next, None
            if not self._settings.redis.is_same_server(before.redis):
                if self.deployment.supervisor:
                    return  # the supervisor starts another process, which makes new connections
                logger.warning("a change of redis needs a restart")
            # Secrets of the old file may still appear in log lines.
            logs.hide([*secrets_in(before), *secrets_in(self._settings)])


def _handle_stops(runner: _Runner, on_stop: Callable[[], None] = lambda: None) -> None:
    def handle(number: signal.Signals) -> None:
        on_stop()
        runner.on_signal(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)


async def _run_alone(file: ConfigurationFile, loaded: Loaded, *, until_empty: bool) -> None:
    """Run one worker without a supervisor. SIGHUP reloads the file."""
    runner = _Runner(loaded.settings, Deployment())
    reload_log = ReloadLog(lambda: runner.settings)

    async def changes() -> AsyncIterator[_Change]:
        async for change in file.reloads():
            if file.was_signalled:
                reload_log.add(change)
            if isinstance(change, ReloadFailure):
                yield _Change(None, Deployment(reload_failure=change, reloaded=file.answered))
            else:
                if change.settings.processes != loaded.settings.processes:
                    logger.warning("a change of processes needs a restart")
                yield _Change(change.settings, Deployment(reloaded=file.answered))

    service = ServiceManager(file, lambda: runner.deployment, runner.reports)
    _handle_stops(runner, service.stopping)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    requests = ReloadRequests(service.reload)

    async def follow_requests() -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if runner.worker is not None:
                requests.seen(runner.worker.reload_request)

    async with AsyncExitStack() as stack:
        for loop in (runner.follow(changes()), service.run(), follow_requests(), reload_log.run()):
            stack.callback(asyncio.create_task(loop).cancel)
        await runner.run(until_empty=until_empty)


async def _run_under_supervisor(end: socket.socket, *, until_empty: bool) -> None:
    """Run one worker that gets its configuration from the supervisor at the other end of the socket."""
    # The supervisor reads the file for all of its workers.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    try:
        orders = first_orders(end)
    except (EOFError, OSError):
        return
    settings = restore(orders.snapshot, adapters())
    _configure_logs(settings)
    runner = _Runner(settings, orders.deployment)
    _handle_stops(runner)
    link = await Link.open(end, Orders)

    async def follow() -> None:
        await runner.follow(_ordered(link, orders.snapshot))
        logger.error("the supervisor is gone: stopping")
        runner.stop()

    async def report() -> None:
        has_joined = False
        while True:
            if runner.worker is not None:
                health = runner.worker.health()
                link.send(health)
                has_joined = bool(health.worker)
            await asyncio.sleep(REPORT_INTERVAL if has_joined else FIRST_REPORT_INTERVAL)

    async with AsyncExitStack() as stack:
        for loop in (follow(), report()):
            stack.callback(asyncio.create_task(loop).cancel)
        await runner.run(until_empty=until_empty)


async def _ordered(link: Link[Orders], snapshot: Snapshot) -> AsyncIterator[_Change]:
    async for orders in link.frames():
        settings = None
        if orders.snapshot != snapshot:
            try:
                settings = await asyncio.to_thread(restore, orders.snapshot, adapters())
            except ConfigError as error:  # this process runs another version than its supervisor
                logger.error("this worker cannot use the supervisor's configuration", problems=error.problems)
                failure = ReloadFailure(error.problems[0], len(error.problems) - 1, time.time())
                deployment = msgspec.structs.replace(orders.deployment, reload_failure=failure)
                yield _Change(None, deployment)
                continue
            else:
                snapshot = orders.snapshot
        yield _Change(settings, orders.deployment)
