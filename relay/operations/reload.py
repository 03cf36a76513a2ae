"""Reload the configuration files of all processes of a fleet, and collect their reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec

from relay.errors import RelayError
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store import audit, reload
from relay.store.audit import AuditEntry
from relay.store.fleet import LEASE, Fleet, Member, WorkerInfo

POLL = 0.2
"""Seconds between two looks at the reports."""

SILENT = "no report"


class ReloadReport(msgspec.Struct, frozen=True):
    """The report of one process that has a configuration file: a supervisor, or a worker without one."""

    host: str
    process: str
    """Name of the supervisor, otherwise host and pid of the worker."""
    ok: bool
    error: str = ""
    """The reason if it keeps its old configuration."""
    settings: str = ""
    """The digest of the configuration that it works with now."""


async def reload_fleet(
    client: Client,
    settings: Settings,
    *,
    who: str,
    because: str,
    wait: float,
    on_report: Callable[[ReloadReport], None] = lambda report: None,
) -> list[ReloadReport]:
    """Ask all processes to read their files again, and wait for their reports for `wait` seconds. `on_report`
    gets each report when it comes. A process that sends none gets a report about that. Raises StoreError, and
    RelayError if no worker is running.
    """
    prefix = settings.redis.prefix
    fleet = Fleet(client, prefix)
    waiting = _processes(await fleet.members())
    if not waiting:
        raise RelayError("no worker is running, so there is nothing to reload")
    request = await reload.request(client, prefix)
    await audit.record(client, prefix, AuditEntry("reload", who, count=len(waiting), why=because))
    reports: list[ReloadReport] = []

    def add(report: ReloadReport) -> None:
        reports.append(report)
        on_report(report)

    until = time.monotonic() + wait
    while waiting and time.monotonic() < until:
        await asyncio.sleep(POLL)
        present = _processes(await fleet.members())
        for name in list(waiting):
            if found := _report(name, present.get(name, []), request):
                del waiting[name]
                add(found)
    for name, workers in waiting.items():
        add(ReloadReport(workers[0].host, name, ok=False, error=f"{SILENT} within {wait:g} s"))
    return reports


def process_of(info: WorkerInfo) -> str:
    """Return the name of the process that reads the configuration file of a worker."""
    return info.deployment.supervisor or f"{info.host}-{info.pid}"


def _processes(members: Iterable[Member]) -> dict[str, list[WorkerInfo]]:
    """Return the living workers by the process that reads their file."""
    found: dict[str, list[WorkerInfo]] = {}
    for member in members:
        if member.silent <= LEASE and member.info.host:
            found.setdefault(process_of(member.info), []).append(member.info)
    return found


def _report(name: str, workers: list[WorkerInfo], request: str) -> ReloadReport | None:
    """Return the report of a process as soon as all of its workers have answered."""
    if not workers or any(worker.deployment.reloaded != request for worker in workers):
        return None
    failures = [worker.deployment.reload_failure for worker in workers]
    error = next((str(failure) for failure in failures if failure is not None), "")
    return ReloadReport(workers[0].host, name, ok=not error, error=error, settings=workers[0].settings)
