"""Health of several workers: which troubles turn the answer of /healthz."""

from __future__ import annotations

import pytest

from relay.admin.health import Health, WorkerReport
from relay.admin.host import Host
from relay.store.deployment import Deployment, ReloadFailure

PAIR = Deployment("host-1", 2)


def report(pid: int = 7, age: float = 0.5, *troubles: str, reported: bool = True) -> WorkerReport:
    health = Health(worker="w", pid=pid, settings="abc", troubles=troubles) if reported else None
    return WorkerReport(pid=pid, age=age, health=health)


@pytest.mark.parametrize(
    ("second", "troubles"),
    [
        (report(8), []),
        (report(8, 9.0, reported=False), []),
        (report(0, 9.0, reported=False), []),
        (report(8, 31.0), ["worker 8: no report for 31 s"]),
        (report(0, 31.0, reported=False), ["a worker: no process for 31 s"]),
        (report(8, 0.5, "queue q: no answer for 12 s"), ["worker 8: queue q: no answer for 12 s"]),
    ],
    ids=["healthy", "starting", "being replaced", "silent", "missing", "in trouble"],
)
def test_each_worker_counts(second: WorkerReport, troubles: list[str]) -> None:
    host = Host(PAIR, [report(), second])
    document = host.document()
    assert (host.healthy, document["healthy"], document["troubles"]) == (not troubles, not troubles, troubles)
    assert [worker["pid"] for worker in document["workers"]] == [7, second.pid]


def test_a_failed_reload_is_shown_and_is_no_trouble() -> None:
    failure = ReloadFailure("relay.yaml:1:2: queues: …", 2, 1.5)
    host = Host(Deployment("host-1", 1, failure), [report()])
    assert host.healthy
    assert host.document()["reload_failed"] == {"problem": failure.problem, "others": 2, "at": 1.5}
