"""The JSON documents about a fleet: `--json` of the command line and the API return the same. Pure.

Times are in Unix seconds, durations in seconds. Later versions may add fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from relay.operations.alerts import alert_document
from relay.operations.document_types import (
    FleetDocument,
    GroupDocument,
    LaneDocument,
    LaneFields,
    OverrideDocument,
    PauseDocument,
    Percentiles,
    ProviderDocument,
    QueueDocument,
    WorkerDocument,
)
from relay.operations.summary import in_trouble, summary
from relay.store.fleet import Member
from relay.store.fleet_findings import findings, lane_findings
from relay.store.groups import Groups
from relay.store.histogram import Histogram
from relay.store.lane_status import Totals
from relay.store.neighbours import ForeignWorker
from relay.store.override import Override
from relay.store.overview import LaneStatus, Overview, QueueStatus
from relay.store.pause import Pause


def fleet_document(overview: Overview, settings: str, others: Sequence[ForeignWorker] = ()) -> FleetDocument:
    """Return the document of `relay status --json`.

    `settings` is the digest of the reader's configuration; `others` are workers of other fleets on the same
    queues.
    """
    return {
        "at": overview.at,
        "summary": summary(overview),
        "in_trouble": in_trouble(overview),
        "queues": [queue_document(queue) for queue in overview.queues],
        "lanes": [lane_document(lane) for lane in overview.lanes],
        "workers": worker_documents(overview),
        "findings": findings(overview, settings, others),
        "alerts": [alert_document(alert) for alert in overview.alerts],
        "errors": list(overview.errors),
    }


def provider_document(overview: Overview) -> ProviderDocument:
    """Return the document of `relay status PROVIDER --json`, from an overview of that lane.

    Outcomes, statuses, reasons, durations and holds are those of the last hour.
    """
    (lane,) = overview.lanes
    return {
        "at": overview.at,
        **_lane_fields(lane),
        "since": overview.detail.since,
        "priorities": dict(overview.detail.priorities),
        "blocked": overview.detail.blocked,
        "holds": [msgspec.to_builtins(hold) for hold in overview.detail.holds],
        "groups": group_documents(lane.groups),
        "group_count": lane.groups.total,
        "groups_complete": lane.groups.complete,
        "outcomes": dict(overview.hour.outcomes),
        "statuses": dict(overview.hour.statuses),
        "reasons": [{"reason": reason, "count": count} for reason, count in overview.hour.reasons.items()],
        "delivery_seconds": _percentiles(overview.hour.delivery),
        "request_seconds": _percentiles(overview.hour.request),
        "findings": lane_findings(overview.lanes),
    }


def queue_document(queue: QueueStatus) -> QueueDocument:
    """Return one queue."""
    return {
        "name": queue.name,
        "waiting": queue.waiting,
        "taken": queue.taken,
        "dead": queue.rejected,
        "oldest_seconds": _rounded(queue.oldest_seconds),
        "taken_per_second": queue.flow.per_second,
        "malformed_share": _rounded(queue.malformed_share),
        "error": queue.error or None,
        "configured": queue.configured,
        "served": queue.served,
    }


def lane_document(lane: LaneStatus) -> LaneDocument:
    """Return one lane."""
    return {**_lane_fields(lane), "groups": lane.groups.total}


def _lane_fields(lane: LaneStatus) -> LaneFields:
    return {
        "provider": lane.provider,
        "state": lane.state,
        "why": lane.why,
        "hold_seconds": round(lane.hold, 3),
        "pause": _pause(lane.pause),
        "rate": lane.rate,
        "override": _override(lane.override),
        "waiting": lane.waiting,
        "oldest_seconds": _rounded(lane.oldest_seconds),
        "empty_in_seconds": _rounded(lane.empty_in_seconds),
        "delayed": lane.delayed,
        "in_flight": lane.in_flight,
        "dead": lane.dead,
        "delivered_per_second": round(lane.recent.delivered_per_second, 3),
        "drained_per_second": round(lane.recent.drained_per_second, 3),
        "errors_per_second": round(lane.recent.errors_per_second, 3),
        "throttled_share": _rounded(lane.recent.throttled_share),
        "limit_used": _rounded(lane.recent.limit_used),
        "settings": None if lane.settings is None else msgspec.to_builtins(lane.settings),
        "configured": lane.configured,
        "served": lane.served,
        "error": lane.error or None,
        "suspects": lane.suspects,
        "outbox": lane.outbox,
        "outbox_lost": lane.outbox_lost,
        **cast(Totals, lane.totals),
    }


def group_documents(groups: Groups) -> list[GroupDocument]:
    """Return the groups of a lane, the largest first."""
    return [
        {
            "group": group.group,
            "state": group.state,
            "why": group.why,
            "hold_seconds": round(group.hold, 3),
            "waiting": group.waiting,
            "in_flight": group.in_flight,
            "oldest_seconds": _rounded(group.oldest),
            "failures": group.failures,
        }
        for group in groups.found
    ]


def worker_documents(overview: Overview) -> list[WorkerDocument]:
    """Return the workers, including those that died within the last minutes."""
    alive = {member.info.worker for member in overview.alive}
    return [
        _worker(member, overview.at, alive=member.info.worker in alive)
        for member in (*overview.workers, *overview.lost)
    ]


def _worker(member: Member, now: float, *, alive: bool) -> WorkerDocument:
    info = member.info
    return {
        "worker": info.worker,
        "host": info.host,
        "pid": info.pid,
        "version": info.version,
        "age": round(now - info.started, 1),
        "silent": round(member.silent, 1),
        "alive": alive,
        "duty": member.duty.value,
        "cpu": info.vitals.cpu if info.vitals else None,
        "memory_bytes": info.vitals.memory if info.vitals else None,
        "in_flight": info.vitals.in_flight if info.vitals else None,
        "settings": info.settings,
        "supervisor": info.deployment.supervisor,
        "reload_failed": msgspec.to_builtins(info.deployment.reload_failure),
    }


def _percentiles(histogram: Histogram) -> Percentiles:
    return {
        "p50": _rounded(histogram.percentile(0.5)),
        "p95": _rounded(histogram.percentile(0.95)),
        "p99": _rounded(histogram.percentile(0.99)),
    }


def _pause(pause: Pause | None) -> PauseDocument | None:
    if pause is None:
        return None
    return {"by": pause.by, "at": pause.at or None, "until": pause.until or None, "reason": pause.reason}


def _override(override: Override | None) -> OverrideDocument | None:
    if override is None:
        return None
    return {
        "rate": override.text,
        "until": override.until or None,
        "by": override.by,
        "why": override.reason,
        "at": override.at or None,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
