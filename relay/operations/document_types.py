"""The types of the JSON documents about a fleet. The schema of the HTTP API is made from them.

Times are in Unix seconds, durations in seconds. Later versions may add fields.
"""

from __future__ import annotations

from typing import TypedDict

from relay.store.deployment import ReloadFailure
from relay.store.holds import Hold
from relay.store.lane_settings import LaneSettings
from relay.store.lane_status import Totals


class QueueDocument(TypedDict):
    """One queue."""

    name: str
    waiting: int
    taken: int
    dead: int
    oldest_seconds: float | None
    taken_per_second: float
    malformed_share: float | None
    error: str | None
    configured: bool
    served: bool


class PauseDocument(TypedDict):
    """A pause in force."""

    by: str
    at: float | None
    until: float | None
    reason: str


class OverrideDocument(TypedDict):
    """A rate that an operator has set."""

    rate: str
    until: float | None
    by: str
    why: str
    at: float | None


class LaneFields(Totals):
    """The state of one lane."""

    provider: str
    state: str
    why: str
    hold_seconds: float
    pause: PauseDocument | None
    rate: str
    override: OverrideDocument | None
    waiting: int
    oldest_seconds: float | None
    empty_in_seconds: float | None
    delayed: int
    in_flight: int
    dead: int
    delivered_per_second: float
    drained_per_second: float
    errors_per_second: float
    throttled_share: float | None
    limit_used: float | None
    settings: LaneSettings | None
    configured: bool
    served: bool
    error: str | None
    suspects: int
    outbox: int
    outbox_lost: int


class LaneDocument(LaneFields):
    """One lane."""

    groups: int


class GroupDocument(TypedDict):
    """One group of a lane."""

    group: str
    state: str
    why: str
    hold_seconds: float
    waiting: int
    in_flight: int
    oldest_seconds: float | None
    failures: int


class WorkerDocument(TypedDict):
    """One worker."""

    worker: str
    host: str
    pid: int
    version: str
    age: float
    silent: float
    alive: bool
    duty: str
    cpu: float | None
    memory_bytes: int | None
    in_flight: int | None
    settings: str
    supervisor: str
    reload_failed: ReloadFailure | None


class AlertDocument(TypedDict):
    """An alert."""

    text: str
    alert: str
    provider: str
    group: str
    queue: str
    status: str
    action: str
    key: str
    since: float
    why: str
    value: float


class FleetDocument(TypedDict):
    """`relay status --json`."""

    at: float
    summary: str
    in_trouble: bool
    queues: list[QueueDocument]
    lanes: list[LaneDocument]
    workers: list[WorkerDocument]
    findings: list[str]
    alerts: list[AlertDocument]
    errors: list[str]


class ReasonCount(TypedDict):
    """A reason of failures, and their number."""

    reason: str
    count: int


class Percentiles(TypedDict):
    """Durations, None if nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None


class ProviderDocument(LaneFields):
    """`relay status PROVIDER --json`. Outcomes, durations and holds are those of the last hour."""

    at: float
    groups: list[GroupDocument]
    since: float | None
    priorities: dict[str, int]
    blocked: int
    holds: list[Hold]
    group_count: int
    groups_complete: bool
    outcomes: dict[str, int]
    statuses: dict[str, int]
    reasons: list[ReasonCount]
    delivery_seconds: Percentiles
    request_seconds: Percentiles
    findings: list[str]
