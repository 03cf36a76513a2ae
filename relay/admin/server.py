"""A small HTTP server in every worker: `/healthz` for orchestrators, `/metrics` for Prometheus.

It listens on loopback unless a token is set; the processes of one host share the port.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from relay.errors import StoreError
from relay.heartbeat import Heartbeat
from relay.settings.models import Settings
from relay.store.overview import Overview, look
from relay.store.scripting import Client
from relay.watchdog import Watchdog

STATES: Final = ("running", "paused", "throttled", "open", "unauthorised")

_GAUGES: Final = {
    "waiting": "Messages that may go.",
    "delayed": "Messages that wait for their time or their next attempt.",
    "in_flight": "Messages that a worker holds.",
    "dead": "Dead letters.",
    "hold": "Seconds for which the lane still holds.",
}

logger = structlog.get_logger()


class Admin:
    """The server of one process; `run` returns when it is cancelled, and never stops the worker."""

    def __init__(self, settings: Settings, client: Client, heartbeat: Heartbeat, watchdog: Watchdog) -> None:
        self._settings = settings
        self._client = client
        self._heartbeat = heartbeat
        self._watchdog = watchdog
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
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
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
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            return web.Response(status=401, text="send `Authorization: Bearer TOKEN` with the admin token\n")
        return await handler(request)

    async def _health(self, request: web.Request) -> web.Response:
        silent = time.monotonic() - self._heartbeat.last
        troubles = self._watchdog.troubles()
        healthy = not troubles
        document = {
            "healthy": healthy,
            "seconds_since_redis_answered": round(silent, 1),
            "troubles": troubles,
            "reconnections": self._watchdog.reconnections,
        }
        return web.json_response(document, status=200 if healthy else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        try:
            overview = await look(self._client, self._settings)
        except StoreError as error:
            return web.Response(status=503, text=f"{error}\n")
        registry = CollectorRegistry()
        registry.register(_Snapshot(overview))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


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
        ended = CounterMetricFamily(
            "relay_messages", "Messages by what became of them.", labels=["provider", "outcome"]
        )
        for lane in lanes:
            for known in STATES:
                state.add_metric([lane.provider, known], float(lane.state == known))
            for outcome, total in lane.totals.items():
                ended.add_metric([lane.provider, outcome], total)
        yield state
        yield ended
        queue = GaugeMetricFamily(
            "relay_queue_waiting", "Elements on an application's list.", labels=["queue"]
        )
        for entry in self._overview.queues:
            queue.add_metric([entry.name], entry.waiting + entry.taken)
        yield queue
        yield GaugeMetricFamily(
            "relay_workers", "Workers whose heart beats.", value=len(self._overview.alive)
        )
