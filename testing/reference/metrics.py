"""The reference of the metrics, made from the collectors of the admin port."""

from __future__ import annotations

import os
from collections.abc import Iterable

from prometheus_client import Metric

from relay.admin.fleet_metrics import FleetMetrics
from relay.admin.health import Health, WorkerReport
from relay.admin.host import Host
from relay.admin.process_metrics import ProcessMetrics
from relay.store.deployment import Deployment
from relay.store.overview import Overview
from testing.reference.markdown import code, table

HEAD = ("metric", "type", "labels", "meaning")


def of_port() -> str:
    """The metrics of `/metrics`."""
    return _table(port_metrics())


def of_fleet() -> str:
    """The metrics of `/metrics/fleet`."""
    return _table(fleet_metrics())


def port_metrics() -> list[Metric]:
    """Each metric of `/metrics`."""
    worker = WorkerReport(pid=os.getpid(), age=0.0, health=Health(worker="w", pid=os.getpid(), settings=""))
    return [*ProcessMetrics(Host(Deployment(), [worker])).collect()]


def fleet_metrics() -> list[Metric]:
    """Each metric of `/metrics/fleet`."""
    return [*FleetMetrics(Overview(0.0, [], [], [])).collect()]


def name_of(metric: Metric) -> str:
    """The name in Prometheus."""
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _table(metrics: Iterable[Metric]) -> str:
    rows = [
        (code(name_of(metric)), metric.type, ", ".join(map(code, _labels(metric))), metric.documentation)
        for metric in metrics
    ]
    return table(HEAD, sorted(rows))


def _labels(metric: Metric) -> list[str]:
    """The labels of a family, also if it has no sample yet."""
    declared = getattr(metric, "_labelnames", ())
    return [*(declared or dict.fromkeys(label for sample in metric.samples for label in sample.labels))]
