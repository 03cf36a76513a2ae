"""Findings about the workers of a fleet, as `relay status` shows them."""

from __future__ import annotations

from typing import Any

from relay.store.deployment import Deployment, ReloadFailure
from relay.store.fleet import Member, WorkerInfo
from relay.store.fleet_findings import findings
from relay.store.groups import Groups, GroupStatus
from relay.store.neighbours import ForeignWorker
from relay.store.overview import LaneStatus, Overview
from relay.store.states import GroupState

ALONE = Deployment()


def member(name: str, settings: str = "new", silent: float = 1.0, deployment: Deployment = ALONE) -> Member:
    info = WorkerInfo(name, "host", "", 7, "1.0", 0.0, settings=settings, deployment=deployment)
    return Member(info, silent, 0.0)


def overview(*workers: Member, lost: tuple[Member, ...] = ()) -> Overview:
    return Overview(0.0, [], [], workers, lost=lost)


def test_a_healthy_fleet_has_no_findings() -> None:
    pair = Deployment("host-1", 2)
    assert findings(overview(member("a", deployment=pair), member("b", deployment=pair)), "new") == []
    assert findings(overview(), "new") == []


def test_a_failed_reload_is_found_once_for_each_supervisor() -> None:
    failed = Deployment("host-1", 2, ReloadFailure("relay.yaml:3:1: queues: wrong", 1, 0.0))
    (line,) = findings(overview(member("a", deployment=failed), member("b", deployment=failed)), "new")
    assert "reload failed on host at 1970-01-01T00:00:00Z" in line
    assert line.endswith("relay.yaml:3:1: queues: wrong (and 1 more)")


def test_older_files_are_found_and_older_versions_are_not_accused() -> None:
    (line,) = findings(overview(member("a"), member("b", "old"), member("c", "")), "new")
    assert line.startswith("1 of the workers use other settings than this file (host pid 7)")


def test_a_missing_worker_is_found_whether_it_is_silent_or_dead() -> None:
    pair = Deployment("host-1", 2)
    alive, silent, dead = (
        member(name, deployment=pair, silent=age) for name, age in zip("abc", (1, 60, 60), strict=True)
    )
    expected = ["1 of 2 workers of supervisor host-1 are alive"]
    assert findings(overview(alive, silent), "new") == expected
    assert findings(overview(alive, lost=(dead,)), "new") == expected


def test_another_fleet_on_the_same_queue_is_found() -> None:
    (line,) = findings(overview(member("a")), "new", [ForeignWorker("other", member("x").info, ("q",))])
    assert "`redis.prefix: other`" in line
    assert "takes from q" in line


def test_a_sample_gives_a_lower_bound_of_disabled_groups() -> None:
    disabled = [
        GroupStatus(f"g{number}\x1b", GroupState.DISABLED, "", 0.0, 0, 0, None, 9) for number in range(1200)
    ]
    numbers: dict[str, Any] = dict.fromkeys(
        ("waiting", "delayed", "in_flight", "dead", "outbox", "outbox_lost"), 0
    )
    lane = LaneStatus(
        "hook", "running", "", 0.0, **numbers, totals={}, groups=Groups(5000, disabled, complete=False)
    )
    (line,) = findings(Overview(0.0, [], [lane], []), "new")
    assert line == (
        "hook: at least 1,200 groups are disabled, and their messages become dead letters (g0\\x1b, g1\\x1b, "
        "g2\\x1b and 1,197 more): `relay resume hook --group NAME` enables one"
    )
