"""The workers behind one admin port, as `/healthz` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.admin.counts import NO_COUNTS, ProcessCounts, added
from relay.admin.health import WorkerReport
from relay.store.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Host:
    """The workers of this port: one that runs alone, or all workers of one supervisor."""

    deployment: Deployment
    workers: Sequence[WorkerReport]
    ended: ProcessCounts = NO_COUNTS
    """The counters of workers that have ended, so that no sum falls when a worker is replaced."""

    @property
    def counts(self) -> ProcessCounts:
        """The counters of all workers since the start of this port's process."""
        reports = [report.health.counts for report in self.workers if report.health is not None]
        return sum(reports, self.ended)

    @property
    def healthy(self) -> bool:
        """Whether every worker reports and makes progress. A failed reload does not count, because a restart
        would not help."""
        return not self.troubles

    @property
    def troubles(self) -> list[str]:
        """Yield one line for each trouble of a worker."""
        alone = not self.deployment.supervisor
        return [
            trouble if alone else f"{f'worker {report.pid}' if report.pid else 'a worker'}: {trouble}"
            for report in self.workers
            for trouble in report.troubles
        ]

    @property
    def seconds_since_redis_answered(self) -> float:
        """The longest time of a worker."""
        reports = [report.health for report in self.workers if report.health is not None]
        return round(max((report.seconds_since_redis_answered for report in reports), default=0.0), 1)

    def document(self) -> dict[str, Any]:
        """Return the answer of `/healthz`."""
        reports = [report.health for report in self.workers if report.health is not None]
        failure = self.deployment.reload_failure
        return {
            "healthy": self.healthy,
            "troubles": self.troubles,
            "reload_failed": msgspec.to_builtins(failure),
            "seconds_since_redis_answered": self.seconds_since_redis_answered,
            "failures": added(report.failures for report in reports),
            "log_lines_dropped": sum(report.log_lines_dropped for report in reports),
            "reconnections": sum(report.reconnections for report in reports),
            "processes": self.deployment.processes,
            "workers": [_worker(report) for report in self.workers],
        }


def _worker(report: WorkerReport) -> dict[str, Any]:
    health = msgspec.to_builtins(report.health) if report.health else {}
    health.pop("lanes", None)
    return {**health, "pid": report.pid, "age": report.age, "troubles": list(report.troubles)}
