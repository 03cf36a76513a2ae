"""The HTTP server of the admin port: the console, `/healthz` for orchestrators, `/metrics` for Prometheus.

A worker that runs alone serves it; otherwise its supervisor does, for all of its workers. `gate` decides who
may do what. Beyond loopback it needs a token.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from relay.admin.acceptor import Acceptor, listen
from relay.admin.console.console import Console
from relay.admin.console.login import Login
from relay.admin.console.sampler import SamplerTuning
from relay.admin.doorway import Doorway
from relay.admin.fleet_metrics import FleetMetrics
from relay.admin.gate import Gate
from relay.admin.host import Host
from relay.admin.log_outs import LogOuts
from relay.admin.process_metrics import ProcessMetrics
from relay.errors import StoreError
from relay.operations.dead_edit import OpenIntake
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store.overview import read_overview

IDLE_TIMEOUT: Final = 10.0
"""Seconds that a connection may be idle, or may take to send a request."""

RETRY: Final = 5.0
"""Seconds until the next try if another program has the port."""

PREPARATION: Final = 5.0
"""Seconds until the console is announced although Redis has not answered."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

logger = structlog.get_logger()


class Admin:
    """The admin server. No error of its own ends `run`."""

    def __init__(
        self,
        settings: Settings,
        client: Callable[[], Awaitable[Client]],
        host: Callable[[], Host],
        open_intake: OpenIntake,
        *,
        idle_timeout: float = IDLE_TIMEOUT,
        retry: float = RETRY,
        sampling: SamplerTuning | None = None,
    ) -> None:
        """`client` returns a client for Redis, or raises StoreError. It is called only for metrics and the
        console, `open_intake` only for malformed, edited and pushed messages."""
        self._settings = settings
        self._client = client
        self._host = host
        self._gate = Gate(settings.admin)
        self._log_outs = LogOuts(self._gate.sessions, client, settings.redis.prefix)
        self._console = Console(settings, client, open_intake, self._log_outs, sampling or SamplerTuning())
        self._idle_timeout = idle_timeout
        self._retry = retry
        self._listeners: list[socket.socket] = []
        self._warned = False

    @property
    def url(self) -> str:
        """The URL of the console, once it listens."""
        host, port = self._listeners[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{self._settings.admin.base_path}/"

    def open(self) -> bool:
        """Listen, so that requests wait for `run`. Returns False if the port is turned off or not
        available."""
        address = self._settings.admin.address
        if address is None:
            return False
        try:
            self._listeners = listen(*address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "the admin port is not available; trying again",
                    listen=self._settings.admin.listen,
                    error=str(error),
                )
            return False
        if self._warned:
            logger.info("the admin port is available now", listen=self._settings.admin.listen)
        return True

    async def prepare(self) -> None:
        """Prepare the pages of the console, before its URL is shown. `run` shows errors of Redis."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(PREPARATION):
                await self._console.prepare()

    async def run(self) -> None:
        """Serve until cancelled. Wait for the port if another program has it. Returns if it is turned off."""
        if self._settings.admin.address is None:
            return
        while True:
            if self._listeners or self.open():
                break
            await asyncio.sleep(self._retry)
        with ExitStack() as stack:
            listeners, self._listeners = self._listeners, []
            for listener in listeners:
                stack.enter_context(listener)
            runner = web.AppRunner(
                self._application(),
                access_log=None,
                shutdown_timeout=0.5,
                keepalive_timeout=self._idle_timeout,
            )
            await runner.setup()
            loading = asyncio.create_task(self._console.load(), name="console templates")
            try:
                assert runner.server is not None
                await Acceptor(listeners, runner.server).run()
            finally:
                loading.cancel()
                await runner.cleanup()

    def _application(self) -> web.Application:
        gate, log_outs = self._gate, self._log_outs
        doorway = Doorway(gate, log_outs, self._settings.admin.base_path)
        app = web.Application(middlewares=[doorway.admit, self._console.missing])
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/metrics/fleet", self._fleet_metrics)
        self._console.add_routes(app, Login(self._settings, gate, doorway, log_outs))
        app.on_response_prepare.append(_add_headers)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        host = self._host()
        return web.json_response(host.document(), status=200 if host.healthy else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return _exposed(ProcessMetrics(self._host()))

    async def _fleet_metrics(self, request: web.Request) -> web.Response:
        try:
            overview = await read_overview(await self._client(), self._settings)
        except StoreError as error:
            return web.Response(status=503, text=f"{error}\n")
        return _exposed(FleetMetrics(overview))


def _exposed(metrics: Collector) -> web.Response:
    registry = CollectorRegistry()
    registry.register(metrics)
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
