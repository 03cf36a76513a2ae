"""Metrics of the processes behind this port, from their own counters. Sums over all ports are those of
the fleet."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from relay import __version__
from relay.admin.counts import Durations, LaneCounts
from relay.admin.host import Host
from relay.store.histogram import BOUNDS

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 100, 300, 1000, 10_000)
"""The bounds in Prometheus, some of `BOUNDS`, because each is a time series of every lane."""


class ProcessMetrics(Collector):
    """A collector for one request."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        host, counts = self._host, self._host.counts
        yield from _attempts(counts.lanes)
        failures = CounterMetricFamily(
            "relay_part_failures",
            "Restarts of a part of a worker after an unexpected exception.",
            labels=["part"],
        )
        for part, number in sorted(counts.failures.items()):
            failures.add_metric([part], number)
        yield failures
        yield GaugeMetricFamily(
            "relay_redis_silence_seconds",
            "Seconds since Redis accepted the last heartbeat, of the worker with the longest time.",
            value=host.seconds_since_redis_answered,
        )
        yield CounterMetricFamily(
            "relay_reconnections",
            "Times that all connections to Redis were dropped because of a stall.",
            value=counts.reconnections,
        )
        yield CounterMetricFamily(
            "relay_log_lines_dropped",
            "Log lines that could not be written: a full disk, a closed or blocked pipe.",
            value=counts.log_lines_dropped,
        )
        yield GaugeMetricFamily(
            "relay_reload_failed",
            "1 if the last reload found a bad file and the previous configuration stays in force.",
            value=float(host.deployment.reload_failure is not None),
        )
        yield GaugeMetricFamily(
            "relay_workers_unhealthy",
            "Workers behind this port that are missing, silent or in trouble.",
            value=sum(bool(report.troubles) for report in host.workers),
        )
        build = GaugeMetricFamily(
            "relay_build_info", "1, with the version of relay and of Python.", labels=["version", "python"]
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        yield from ProcessCollector(registry=None).collect()
        yield from self._workers()

    def _workers(self) -> Iterable[Metric]:
        """Yield CPU, memory and descriptors of each worker, by its place under the supervisor."""
        labelled: dict[str, Metric] = {}
        for place, report in enumerate(self._host.workers):
            if not report.pid:
                continue
            collector = ProcessCollector("relay_worker", partial(int, report.pid), registry=None)
            for found in collector.collect():
                name = _of_worker(found.name)
                family = labelled.setdefault(name, Metric(name, found.documentation, found.type))
                for sample in found.samples:
                    family.add_sample(_of_worker(sample.name), {"place": str(place)}, sample.value)
        yield from labelled.values()


def _of_worker(name: str) -> str:
    return name.replace("relay_worker_process_", "relay_worker_", 1)


def _attempts(lanes: Mapping[str, LaneCounts]) -> Iterable[Metric]:
    attempts = CounterMetricFamily(
        "relay_attempts",
        "Attempts by result: delivered, retry, throttled, rejected, dead, unregistered, unauthorised.",
        labels=["provider", "result"],
    )
    delivery = HistogramMetricFamily(
        "relay_delivery_seconds",
        "Time from the push of a message until the provider accepted it.",
        labels=["provider", "status_class"],
    )
    request = HistogramMetricFamily(
        "relay_request_seconds",
        "Time of a request. The status class is none if there was no answer.",
        labels=["provider", "status_class"],
    )
    for provider, counts in sorted(lanes.items()):
        for result, number in sorted(counts.results.items()):
            attempts.add_metric([provider, result], number)
        for family, by_class in ((delivery, counts.delivery), (request, counts.request)):
            for status_class, durations in sorted(by_class.items()):
                family.add_metric([provider, status_class], _cumulative(durations), durations.seconds)
    yield from (attempts, delivery, request)


def _cumulative(durations: Durations) -> list[tuple[str, float]]:
    """Return for each bound how many durations do not exceed it."""
    buckets = sorted(durations.buckets.items())
    found: list[tuple[str, float]] = []
    for bound in BUCKETS:
        below = sum(number for index, number in buckets if index < len(BOUNDS) and BOUNDS[index] <= bound)
        found.append((f"{float(bound)}", below))
    return [*found, ("+Inf", sum(durations.buckets.values()))]
