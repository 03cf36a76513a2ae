"""Findings about a fleet: failed reloads, other settings, missing workers, groups that fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from relay.store.fleet import Member, WorkerInfo
from relay.store.groups import LONGEST_NAME, Groups, GroupStatus
from relay.store.neighbours import ForeignWorker
from relay.store.overview import LaneStatus, Overview
from relay.store.states import GroupState
from relay.store.vitals import Duty
from relay.text import rfc3339, shortened


def findings(overview: Overview, settings: str, others: Sequence[ForeignWorker] = ()) -> list[str]:
    """Return one line for each finding.

    `settings` is the digest of the reader's configuration; `others` are workers of other fleets on the same
    queues.
    """
    return [*worker_findings(overview, settings), *lane_findings(overview.lanes), *map(str, others)]


def worker_findings(overview: Overview, settings: str) -> list[str]:
    """Return the lines about workers and their files."""
    workers = [member.info for member in overview.alive]
    return [
        *_reloads(workers),
        *_other_settings(workers, settings),
        *_differing(overview.differing),
        *_drained(overview.alive),
        *_missing(overview),
    ]


def has_other_settings(worker: WorkerInfo, settings: str) -> bool:
    """Return whether a worker has another configuration. Older versions do not publish theirs."""
    return worker.settings not in ("", settings)


def _reloads(workers: Iterable[WorkerInfo]) -> Iterator[str]:
    failures = {
        (worker.host, worker.deployment.supervisor or worker.worker): worker.deployment.reload_failure
        for worker in workers
    }
    for (host, _), failure in failures.items():
        if failure is not None:
            at = rfc3339(failure.at)
            yield f"reload failed on {host} at {at}, the previous configuration stays in force: {failure}"


def _other_settings(workers: Iterable[WorkerInfo], settings: str) -> Iterator[str]:
    others = [worker for worker in workers if has_other_settings(worker, settings)]
    if others:
        places = ", ".join(f"{worker.host} pid {worker.pid}" for worker in others)
        yield (
            f"{len(others)} of the workers use other settings than this file ({places}): an older version of "
            "it, which SIGHUP reloads, or another file with the same prefix"
        )


def _differing(providers: Sequence[str], most: int = 5) -> Iterator[str]:
    if providers:
        others = f" and {len(providers) - most:,} more" if len(providers) > most else ""
        yield (
            f"workers use different settings for {', '.join(providers[:most])}{others}: those of the worker "
            "that started last are shown; reload the others with SIGHUP"
        )


def _drained(alive: Sequence[Member]) -> Iterator[str]:
    drained = [member.info for member in alive if member.duty is not Duty.SERVING]
    if drained:
        places = ", ".join(f"{worker.host} pid {worker.pid}" for worker in drained)
        yield (
            f"an operator keeps {len(drained)} of {len(alive)} workers from taking messages ({places}): "
            "`relay worker resume NAME` ends that"
        )


def _missing(overview: Overview) -> Iterator[str]:
    by_supervisor: dict[str, list[Member]] = {}
    for member in (*overview.workers, *overview.lost):
        if member.info.deployment.supervisor:
            by_supervisor.setdefault(member.info.deployment.supervisor, []).append(member)
    for supervisor, members in by_supervisor.items():
        alive = [member.info for member in members if member in overview.alive]
        if not alive:
            continue  # the supervisor may have ended too
        newest = max(alive, key=lambda worker: worker.started)
        expected = newest.deployment.processes
        if len(alive) < expected:
            yield f"{len(alive)} of {expected} workers of supervisor {supervisor} are alive"


def lane_findings(lanes: Sequence[LaneStatus]) -> list[str]:
    """Return a line for each rate that an operator has set, and those of `group_findings`."""
    overrides = [
        f"{lane.provider}: an operator's rate is in force: {lane.override} (`relay rate {lane.provider} "
        "--reset` ends it)"
        for lane in lanes
        if lane.override is not None
    ]
    return [*overrides, *group_findings(lanes)]


def group_findings(lanes: Iterable[LaneStatus]) -> list[str]:
    """Return a line for each lane with disabled groups, and one for each with open breakers of groups."""
    found = []
    for lane in lanes:
        disabled = lane.groups.in_state(GroupState.DISABLED)
        failing = lane.groups.in_state(GroupState.OPEN)
        if disabled:
            are, their = ("is", "its") if len(disabled) == 1 else ("are", "their")
            found.append(
                f"{lane.provider}: {_counted(disabled, lane.groups)} {are} disabled, and {their} messages "
                f"become dead letters ({_listed(disabled)}): `relay resume {lane.provider} --group NAME` "
                "enables one"
            )
        if failing:
            found.append(
                f"{lane.provider}: the breaker of {_counted(failing, lane.groups)} is open "
                f"({_listed(failing)}): `relay status {lane.provider}` shows why"
            )
    return found


def _counted(groups: Sequence[GroupStatus], of: Groups) -> str:
    at_least = "" if of.complete else "at least "
    return f"{at_least}{len(groups):,} {'group' if len(groups) == 1 else 'groups'}"


def _listed(groups: Sequence[GroupStatus], most: int = 3) -> str:
    names = ", ".join(shortened(group.group, LONGEST_NAME) for group in groups[:most])
    others = len(groups) - most
    return names if others <= 0 else f"{names} and {others:,} more"
