"""The health report of one worker process, as `/healthz` shows it and a supervisor reads it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from relay.admin.counts import LaneCounts, ProcessCounts

REPORT_TIMEOUT = 10.0
"""Seconds without a report after which a worker counts as silent, or as missing if there is none."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """One report. All durations are in seconds."""

    worker: str
    """The worker's name in the fleet; empty before it has joined."""
    pid: int
    settings: str
    """Digest of the configuration that the process works with."""
    troubles: tuple[str, ...] = ()
    """One line for each part that makes no progress or keeps failing; empty if the worker is healthy."""
    failures: Mapping[str, int] = {}
    """The number of restarts of each part (`lane pusher`, `queue hits`, `outbox pusher`, `recovery`, …) after
    an unexpected exception."""
    reconnections: int = 0
    """The number of times that all connections to Redis were dropped because of a stall."""
    seconds_since_redis_answered: float = 0.0
    reload_request: str | None = None
    """The last request of an operator to reload; empty if there is none, None before the first heartbeat."""
    log_lines_dropped: int = 0
    """Log lines that could not be written: a full disk, a closed or blocked pipe."""
    lanes: Mapping[str, LaneCounts] = {}
    """The attempts since the start of the process, of the lanes that have some. Not part of `/healthz`."""

    @property
    def counts_of_worker(self) -> ProcessCounts:
        """The counters without those that the process keeps if its worker is replaced."""
        return msgspec.structs.replace(self.counts, log_lines_dropped=0)

    @property
    def counts(self) -> ProcessCounts:
        """The counters for `/metrics`."""
        return ProcessCounts(
            failures=self.failures,
            reconnections=self.reconnections,
            log_lines_dropped=self.log_lines_dropped,
            lanes=self.lanes,
        )

    @property
    def healthy(self) -> bool:
        return not self.troubles


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """The last report of one worker, as the process that answers `/healthz` has it."""

    pid: int
    """0 while no process is running."""
    age: float
    """Seconds since the last report, or since the worker was first started if there was none."""
    health: Health | None = None
    """The last report; None before a process has sent its first one."""

    @property
    def troubles(self) -> tuple[str, ...]:
        """The troubles that the worker reports, or its silence."""
        if self.age > REPORT_TIMEOUT:
            missing = "no report" if self.pid else "no process"
            return (f"{missing} for {self.age:.0f} s",)
        return self.health.troubles if self.health else ()
