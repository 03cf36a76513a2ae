"""The HTTP server of the admin port: the console, `/healthz` for orchestrators, `/metrics` for Prometheus.

A worker that runs alone serves it; otherwise its supervisor does, for all of its workers. `gate` says who may
do what. Beyond loopback it needs a token.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from relay.admin.acceptor import Acceptor, listen
from relay.admin.console.console import Console
from relay.admin.doorway import Doorway
from relay.admin.gate import Gate
from relay.admin.group_metrics import group_metrics
from relay.admin.host import Host
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store.overview import LaneStatus, Overview, read_overview
from relay.store.states import State

STATES: Final = tuple(State)

_GAUGES: Final = {
    "waiting": "Messages that can be sent now.",
    "delayed": "Messages that wait for their delivery time or their next attempt.",
    "in_flight": "Messages that a worker has claimed.",
    "dead": "Dead letters.",
    "outbox": "Receipts and feedback that are not forwarded to the application yet.",
    "hold": "Seconds until the hold of the lane ends.",
}

IDLE_TIMEOUT: Final = 10.0
"""Seconds that a connection may be idle, or may take to send a request."""

RETRY: Final = 5.0
"""Seconds until the next try if another program has the port."""

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
        *,
        idle_timeout: float = IDLE_TIMEOUT,
        retry: float = RETRY,
    ) -> None:
        """`client` returns a client for Redis, or raises StoreError. It is called only for metrics."""
        self._settings = settings
        self._client = client
        self._host = host
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
            try:
                assert runner.server is not None
                await Acceptor(listeners, runner.server).run()
            finally:
                await runner.cleanup()

    def _application(self) -> web.Application:
        admin = self._settings.admin
        gate = Gate(admin)
        app = web.Application(middlewares=[Doorway(gate, admin.base_path).admit])
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        Console(self._settings, self._client, gate).add_routes(app)
        app.on_response_prepare.append(_add_headers)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        host = self._host()
        return web.json_response(host.document(), status=200 if host.healthy else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        try:
            overview = await read_overview(await self._client(), self._settings)
        except StoreError as error:
            return web.Response(status=503, text=f"{error}\n")
        registry = CollectorRegistry()
        registry.register(_Snapshot(overview))
        registry.register(_Local(self._host()))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


class _Snapshot:
    """The state of the fleet as metrics, the same in every process."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterable[Metric]:
        lanes = self._overview.lanes
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"relay_lane_{name}", text, labels=["provider"])
            for lane in lanes:
                gauge.add_metric([lane.provider], getattr(lane, name))
            yield gauge
        state = GaugeMetricFamily(
            "relay_lane_state", "1 for the state of the lane.", labels=["provider", "state"]
        )
        lost = CounterMetricFamily(
            "relay_lane_outbox_lost",
            "Receipts and feedback that could not be forwarded.",
            labels=["provider"],
        )
        ended = CounterMetricFamily("relay_messages", "Messages by outcome.", labels=["provider", "outcome"])
        for lane in lanes:
            for known in STATES:
                state.add_metric([lane.provider, known], float(lane.state == known))
            lost.add_metric([lane.provider], lane.outbox_lost)
            for outcome, total in lane.totals.items():
                ended.add_metric([lane.provider, outcome], total)
        yield state
        yield lost
        yield ended
        yield from group_metrics(lanes)
        queue = GaugeMetricFamily(
            "relay_queue_waiting", "Elements on an application's list.", labels=["queue"]
        )
        for entry in self._overview.queues:
            queue.add_metric([entry.name], entry.waiting + entry.taken)
        yield queue
        yield from self._faults()
        yield GaugeMetricFamily("relay_workers", "Workers with a heartbeat.", value=len(self._overview.alive))

    def _faults(self) -> Iterable[Metric]:
        """Yield 1 for each row that could not be read, and for each that the file does not name."""
        families = (("lane", "provider", self._overview.lanes), ("queue", "queue", self._overview.queues))
        for kind, label, rows in families:
            error = GaugeMetricFamily(
                f"relay_{kind}_error", "1 if Redis refuses to read some of its keys.", labels=[label]
            )
            unconfigured = GaugeMetricFamily(
                f"relay_{kind}_unconfigured", "1 if it holds messages and is not in the file.", labels=[label]
            )
            for row in rows:
                name = row.provider if isinstance(row, LaneStatus) else row.name
                error.add_metric([name], float(bool(row.error)))
                unconfigured.add_metric([name], float(not row.configured))
            yield error
            yield unconfigured


class _Local:
    """The workers of this port as metrics."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> Iterable[Metric]:
        reports = [report.health for report in self._host.workers if report.health is not None]
        failures = CounterMetricFamily(
            "relay_part_failures",
            "How often a part of a worker was restarted after an unexpected exception.",
            labels=["part"],
        )
        for part in sorted({part for report in reports for part in report.failures}):
            failures.add_metric([part], sum(report.failures.get(part, 0) for report in reports))
        yield failures
        yield CounterMetricFamily(
            "relay_reconnections",
            "How often all connections to Redis were dropped because of a stall.",
            value=sum(report.reconnections for report in reports),
        )
        yield CounterMetricFamily(
            "relay_log_lines_dropped",
            "Log lines that could not be written: a full disk, a closed or blocked pipe.",
            value=sum(report.log_lines_dropped for report in reports),
        )
        yield GaugeMetricFamily(
            "relay_reload_failed",
            "1 if the last reload found a bad file and the previous configuration stays in force.",
            value=float(self._host.deployment.reload_failure is not None),
        )
        yield GaugeMetricFamily(
            "relay_workers_unhealthy",
            "Workers behind this port that are missing, silent or in trouble.",
            value=sum(bool(report.troubles) for report in self._host.workers),
        )
