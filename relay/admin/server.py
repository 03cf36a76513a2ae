"""A small HTTP server in every worker: `/healthz` for orchestrators, `/metrics` for Prometheus.

It listens on loopback unless a token is set; the processes of one host share the port. It only ever answers
GET, sets no cookie and lets no other origin read it, so a page in somebody's browser can do nothing with it:
without a token, the name it was asked by has to be this host's (DNS rebinding).
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from relay.errors import StoreError
from relay.health import Health
from relay.settings.models import Settings, is_loopback
from relay.store.overview import LaneStatus, Overview, look
from relay.store.scripting import Client

STATES: Final = ("running", "paused", "throttled", "open", "unauthorised")

_GAUGES: Final = {
    "waiting": "Messages that may go.",
    "delayed": "Messages that wait for their time or their next attempt.",
    "in_flight": "Messages that a worker holds.",
    "dead": "Dead letters.",
    "outbox": "Receipts and feedback on their way to the application.",
    "hold": "Seconds for which the lane still holds.",
}

PATIENCE = 10.0
"""Seconds that a connection may be idle, or take to say what it wants: slow ones are not waited for."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

logger = structlog.get_logger()


class Admin:
    """The server of one process; `run` returns when it is cancelled, and never stops the worker."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        health: Callable[[], Health],
        patience: float = PATIENCE,
    ) -> None:
        self._patience = patience
        self._settings = settings
        self._client = client
        self._report = health
        token = settings.admin.token
        self._token = token.get_secret_value() if token else ""

    async def start(self) -> web.AppRunner | None:
        """Listen; None where the configuration turns it off or the port is taken by another program."""
        address = self._settings.admin.address
        if address is None:
            return None
        app = web.Application(middlewares=[self._authorise])
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.on_response_prepare.append(_add_headers)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, keepalive_timeout=self._patience)
        await runner.setup()
        try:
            await web.TCPSite(runner, *address, reuse_port=True).start()
        except OSError as error:
            logger.warning("no admin server", listen=self._settings.admin.listen, error=str(error))
            await runner.cleanup()
            return None
        return runner

    @web.middleware
    async def _authorise(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not self._token and not _is_local(request.host):
            return web.Response(status=421, text="ask for 127.0.0.1 or localhost, or set `admin.token`\n")
        if self._token and not self._is_token(request.headers.get("Authorization", "")):
            return web.Response(
                status=401,
                text="send `Authorization: Bearer TOKEN` with the admin token\n",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return await handler(request)

    def _is_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        # What a client sends need not be UTF-8.
        found = given.strip().encode("utf-8", "surrogateescape")
        return hmac.compare_digest(found, self._token.encode()) and scheme.lower() == "bearer"

    async def _health(self, request: web.Request) -> web.Response:
        health = self._report()
        document = {
            "healthy": health.healthy,
            "seconds_since_redis_answered": round(health.seconds_since_redis_answered, 1),
            "troubles": health.troubles,
            "failures": health.failures,
            "reconnections": health.reconnections,
            "log_lines_dropped": health.log_lines_dropped,
        }
        return web.json_response(document, status=200 if health.healthy else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        try:
            overview = await look(self._client, self._settings)
        except StoreError as error:
            return web.Response(status=503, text=f"{error}\n")
        registry = CollectorRegistry()
        registry.register(_Snapshot(overview))
        registry.register(_Process(self._report()))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _is_local(host: str) -> bool:
    """Whether a Host header means this host by its own names; any port, as it may be forwarded."""
    _, colon, port = host.rpartition(":")
    return is_loopback(host.lower() if colon and port.isdecimal() else f"{host.lower()}:0")


class _Snapshot:
    """One look at the fleet, in Prometheus's terms: the same from whichever process answers."""

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
            "relay_lane_outbox_lost", "Receipts and feedback that could go nowhere.", labels=["provider"]
        )
        ended = CounterMetricFamily(
            "relay_messages", "Messages by what became of them.", labels=["provider", "outcome"]
        )
        for lane in lanes:
            for known in STATES:
                state.add_metric([lane.provider, known], float(lane.state == known))
            lost.add_metric([lane.provider], lane.outbox_lost)
            for outcome, total in lane.totals.items():
                ended.add_metric([lane.provider, outcome], total)
        yield state
        yield lost
        yield ended
        queue = GaugeMetricFamily(
            "relay_queue_waiting", "Elements on an application's list.", labels=["queue"]
        )
        for entry in self._overview.queues:
            queue.add_metric([entry.name], entry.waiting + entry.taken)
        yield queue
        yield from self._faults()
        yield GaugeMetricFamily(
            "relay_workers", "Workers whose heart beats.", value=len(self._overview.alive)
        )

    def _faults(self) -> Iterable[Metric]:
        """1 for each row that could not be read, and for each that the file does not name."""
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


class _Process:
    """The health of the process that answers."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        failures = CounterMetricFamily(
            "relay_part_failures",
            "How often a part of this worker was restarted after an unexpected exception.",
            labels=["part"],
        )
        for part, number in self._health.failures.items():
            failures.add_metric([part], number)
        yield failures
        yield CounterMetricFamily(
            "relay_log_lines_dropped",
            "Log lines that could not be written: a full disk, a closed or blocked pipe.",
            value=self._health.log_lines_dropped,
        )
