"""Compares relay with other systems on the same workloads. Rounds alternate, so that a slow phase affects
all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any

from bench.measure import Backlog, Servers, Steady, Unfinished
from bench.systems import System
from bench.workloads import Workload

Say = Callable[[str], None]
Pair = tuple[str, str]
"""The names of a workload and of a system."""


@dataclass(frozen=True, slots=True)
class Plan:
    workloads: Sequence[Workload]
    systems: Sequence[System]
    messages: int
    seconds: float
    """The longest time that a backlog is drained."""
    rounds: int
    per_second: int
    """Messages per second at the steady rate."""
    steady_seconds: float
    processes: int = 1
    """Worker processes of each system."""
    rest: float = 2.0

    def pairs(self) -> Iterator[tuple[Workload, System]]:
        for workload in self.workloads:
            for system in self.systems:
                if workload.name in system.workloads:
                    yield workload, system


@dataclass(slots=True)
class Found:
    backlogs: dict[Pair, list[Backlog]] = field(default_factory=dict)
    steady: dict[Pair, Steady] = field(default_factory=dict)
    failed: dict[Pair, str] = field(default_factory=dict)


def run(servers: Servers, plan: Plan, say: Say) -> Found:
    """Run the plan. A combination that fails is logged, and skipped from then on."""
    found = Found()
    for step in [_backlog] * plan.rounds + [_steady] * bool(plan.steady_seconds):
        for workload, system in plan.pairs():
            if (workload.name, system.name) in found.failed:
                continue
            if step is _steady and workload.targets > 1:
                continue  # the rate counts messages
            try:
                outcome = step(servers, plan, found, workload, system)
            except Unfinished as error:
                outcome = found.failed[workload.name, system.name] = f"failed: {error}"
            say(f"{workload.name}: {system.name}: {outcome}")
    return found


def _backlog(servers: Servers, plan: Plan, found: Found, workload: Workload, system: System) -> str:
    one = servers.backlog(system, workload, plan.messages, plan.seconds, processes=plan.processes)
    found.backlogs.setdefault((workload.name, system.name), []).append(one)
    return f"{one.messages_per_second:,.0f} messages/s"


def _steady(servers: Servers, plan: Plan, found: Found, workload: Workload, system: System) -> str:
    one = servers.steady(system, workload, plan.per_second, plan.steady_seconds, plan.rest)
    found.steady[workload.name, system.name] = one
    return f"p50 {median(one.ages or (0,)) * 1000:.1f} ms"


def document(found: Found) -> dict[str, Any]:
    """Return the figures as JSON: medians of the rounds. `relay_is` is relay's rate divided by the system's,
    round by round."""
    backlog: dict[str, dict[str, Any]] = {}
    for (workload, system), runs in found.backlogs.items():
        names = asdict(runs[0])
        figures: dict[str, Any] = {name: median(getattr(run, name) for run in runs) for name in names}
        relay = found.backlogs.get((workload, "relay"), [])
        ratios = [
            ours.messages_per_second / theirs.messages_per_second
            for ours, theirs in zip(relay, runs, strict=False)
        ]
        figures["relay_is"] = median(ratios) if ratios else None
        figures["runs"] = [round(run.messages_per_second, 1) for run in runs]
        backlog.setdefault(workload, {})[system] = figures
    steady: dict[str, dict[str, Any]] = {}
    for (workload, system), one in found.steady.items():
        steady.setdefault(workload, {})[system] = _late(one)
    failed = [
        {"work": workload, "system": system, "why": why} for (workload, system), why in found.failed.items()
    ]
    return {"backlog": backlog, "steady": steady, "failed": failed}


def _late(one: Steady) -> dict[str, Any]:
    cuts = quantiles(one.ages, n=1000) if len(one.ages) > 1 else [float("nan")] * 999
    figures = {f"p{name}_ms": cuts[cut] * 1000 for name, cut in (("50", 499), ("99", 989), ("999", 998))}
    rest = asdict(one)
    del rest["ages"]
    return {**figures, **rest}
