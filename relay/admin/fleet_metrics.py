"""Metrics of the fleet, read from Redis: the same on every port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.admin.group_metrics import group_metrics
from relay.store.overview import LaneStatus, Overview
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


class FleetMetrics(Collector):
    """A collector for one request."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        yield from self._lanes()
        yield from group_metrics(self._overview.lanes)
        yield from self._queues()
        yield from self._faults()
        yield GaugeMetricFamily("relay_workers", "Workers with a heartbeat.", value=len(self._overview.alive))

    def _lanes(self) -> Iterable[Metric]:
        lanes = self._overview.lanes
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"relay_lane_{name}", text, labels=["provider"])
            for lane in lanes:
                gauge.add_metric([lane.provider], getattr(lane, name))
            yield gauge
        oldest = GaugeMetricFamily(
            "relay_lane_oldest_seconds",
            "Age of the oldest message that could be sent now; 0 if none waits.",
            labels=["provider"],
        )
        used = GaugeMetricFamily(
            "relay_lane_limit_used_ratio",
            "Share of the rate limit that the last minute used; absent without a limit.",
            labels=["provider"],
        )
        state = GaugeMetricFamily(
            "relay_lane_state", "1 for the state of the lane.", labels=["provider", "state"]
        )
        overridden = GaugeMetricFamily(
            "relay_lane_overridden",
            "1 while an operator's rate replaces that of the file.",
            labels=["provider"],
        )
        lost = CounterMetricFamily(
            "relay_lane_outbox_lost",
            "Receipts and feedback that could not be forwarded.",
            labels=["provider"],
        )
        ended = CounterMetricFamily("relay_messages", "Messages by outcome.", labels=["provider", "outcome"])
        for lane in lanes:
            oldest.add_metric([lane.provider], lane.oldest_seconds or 0.0)
            if lane.recent.limit_used is not None:
                used.add_metric([lane.provider], lane.recent.limit_used)
            for known in STATES:
                state.add_metric([lane.provider, known], float(lane.state == known))
            overridden.add_metric([lane.provider], float(lane.override is not None))
            lost.add_metric([lane.provider], lane.outbox_lost)
            for outcome, total in lane.totals.items():
                ended.add_metric([lane.provider, outcome], total)
        yield from (oldest, used, state, overridden, lost, ended)

    def _queues(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily(
            "relay_queue_waiting", "Elements on an application's list.", labels=["queue"]
        )
        dead = GaugeMetricFamily(
            "relay_queue_dead", "Elements that belong to no provider, kept as dead letters.", labels=["queue"]
        )
        oldest = GaugeMetricFamily(
            "relay_queue_oldest_seconds",
            "Age of the oldest element that contains its time; 0 if none does.",
            labels=["queue"],
        )
        for queue in self._overview.queues:
            waiting.add_metric([queue.name], queue.waiting + queue.taken)
            dead.add_metric([queue.name], queue.rejected)
            oldest.add_metric([queue.name], queue.oldest_seconds or 0.0)
        yield from (waiting, dead, oldest)

    def _faults(self) -> Iterable[Metric]:
        """Yield 1 for each row that could not be read, that nobody serves, or that the file does not name."""
        families = (("lane", "provider", self._overview.lanes), ("queue", "queue", self._overview.queues))
        for kind, label, rows in families:
            error = GaugeMetricFamily(
                f"relay_{kind}_error", "1 if Redis refuses to read some of its keys.", labels=[label]
            )
            unconfigured = GaugeMetricFamily(
                f"relay_{kind}_unconfigured", "1 if it holds messages and is not in the file.", labels=[label]
            )
            unserved = GaugeMetricFamily(
                f"relay_{kind}_unserved", "1 if no living worker serves it.", labels=[label]
            )
            for row in rows:
                name = row.provider if isinstance(row, LaneStatus) else row.name
                error.add_metric([name], float(bool(row.error)))
                unconfigured.add_metric([name], float(not (row.configured or row.is_empty)))
                unserved.add_metric([name], float(not row.served))
            yield from (error, unconfigured, unserved)
