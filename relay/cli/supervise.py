"""`relay run` with several processes: the supervisor with its configuration and its admin port."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import msgspec
import structlog

from relay import logs
from relay.cli import common
from relay.cli.advice import log_findings
from relay.cli.configuration import ConfigurationFile, Loaded
from relay.cli.reload_log import ReloadLog
from relay.cli.reload_requests import ReloadRequests
from relay.cli.service_manager import ServiceManager
from relay.engine.link import Orders
from relay.engine.parts import Parts
from relay.engine.supervisor import Supervisor, Tuning
from relay.errors import RelayError
from relay.redis_client.client import Client
from relay.redis_client.connect import embedded
from relay.settings.models import Settings
from relay.settings.redaction import secrets_in
from relay.store.deployment import Deployment, ReloadFailure

HANGUP = frozenset({signal.SIGHUP})

logger = structlog.get_logger()


async def supervise(
    file: ConfigurationFile,
    loaded: Loaded,
    command: Sequence[str],
    number_of: Callable[[Settings], int],
    *,
    until_empty: bool,
    tuning: Tuning | None = None,
) -> int:
    """Supervise workers until they have ended; returns the exit code.

    `number_of` returns how many workers a configuration asks for. SIGHUP must be blocked; it is handled
    before the first worker starts.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    orders = Orders(loaded.snapshot, Deployment(name, number_of(loaded.settings)))
    timeout = loaded.settings.shutdown_timeout

    def reload(request: str) -> None:
        service.reload(request)

    requests = ReloadRequests(reload)
    supervisor = Supervisor(
        command,
        orders,
        timeout,
        until_empty=until_empty,
        on_report=lambda health: requests.seen(health.reload_request),
        tuning=tuning,
    )
    port = _AdminPort(supervisor)
    present = loaded.settings
    reload_log = ReloadLog(lambda: present)

    def apply(change: Loaded | ReloadFailure) -> None:
        nonlocal present
        if isinstance(change, ReloadFailure):
            deployment = msgspec.structs.replace(
                supervisor.orders.deployment, reload_failure=change, reloaded=file.answered
            )
            orders = msgspec.structs.replace(supervisor.orders, deployment=deployment)
        else:
            # Secrets of the old file may still appear in log lines.
            logs.hide([*secrets_in(present), *secrets_in(change.settings)])
            present = change.settings
            deployment = Deployment(name, number_of(present), reloaded=file.answered)
            orders = Orders(change.snapshot, deployment)
        supervisor.update(orders, present.shutdown_timeout)

    async def follow() -> None:
        async for change in file.reloads():
            result = await _reachable(change, present)
            apply(result)
            if file.was_signalled:
                reload_log.add(result)
            await port.serve(present)

    service = ServiceManager(file, lambda: supervisor.orders.deployment, supervisor.reports)

    def stop(number: signal.Signals) -> None:
        service.stopping()
        supervisor.stop(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    async with embedded(loaded.settings.redis.url.get_secret_value()), AsyncExitStack() as stack:
        # Fail once, with one line, if Redis cannot be reached.
        async with common.redis(loaded.settings) as client:
            await log_findings(client, loaded.settings)
        following = asyncio.create_task(Parts().keep("configuration", follow))
        stack.callback(following.cancel)
        for about, run in (("service manager", service.run), ("reload log", reload_log.run)):
            stack.callback(asyncio.create_task(Parts().keep(about, run)).cancel)
        if signal.sigtimedwait(HANGUP, 0) is not None:
            file.notify()
            await file.idle()
        # Workers would inherit the mask.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
        logger.info("supervising", processes=supervisor.orders.deployment.processes)
        stack.push_async_callback(port.close)
        await port.serve(present)
        return await supervisor.run()


async def _reachable(change: Loaded | ReloadFailure, present: Settings) -> Loaded | ReloadFailure:
    """Return the change, or a failure if it names a Redis that cannot be reached: all workers would end."""
    if isinstance(change, ReloadFailure) or change.settings.redis == present.redis:
        return change
    try:
        async with common.redis(change.settings):
            return change
    except RelayError as error:
        logger.error("the new Redis cannot be used: the old configuration stays", error=str(error))
        return ReloadFailure(f"{change.settings.path}: redis: {error}", 0, time.time())


class _AdminPort:
    """The admin server in the supervisor. It connects to Redis only for requests of metrics."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._settings: Settings | None = None
        self._task: asyncio.Task[None] | None = None

    async def serve(self, settings: Settings) -> None:
        """Serve with these settings until `close`."""
        if settings == self._settings:
            return
        await self.close()
        self._settings = settings
        if settings.admin.address is not None:
            self._task = asyncio.create_task(self._run(settings))
            await asyncio.sleep(0)  # it listens

    async def close(self) -> None:
        """Stop serving."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self, settings: Settings) -> None:
        # A web server takes 13 MiB, so only a process that serves loads it.
        from relay.admin.host import Host
        from relay.admin.server import Admin
        from relay.engine.configured_intake import ConfiguredIntake

        def host() -> Host:
            supervisor = self._supervisor
            return Host(supervisor.orders.deployment, supervisor.reports(), supervisor.ended)

        async with _lazily(settings) as client:
            admin = Admin(settings, client, host, partial(ConfiguredIntake, settings=settings))
            admin.open()
            await Parts().keep("admin port", admin.run)


@asynccontextmanager
async def _lazily(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """Return a function that returns a client for Redis, and connects at its first call."""
    connected: Client | None = None
    lock = asyncio.Lock()

    async def client() -> Client:
        nonlocal connected
        async with lock:
            if connected is None:
                connected = await stack.enter_async_context(common.redis(settings))
        return connected

    async with AsyncExitStack() as stack:
        yield client
