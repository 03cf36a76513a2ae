"""relay beside its peers, on the same work: rounds in turns, so that a noisy moment hits all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any

from bench.measure import Backlog, Place, Steady, Unfinished
from bench.systems import System
from bench.work import Work

Say = Callable[[str], None]
Pair = tuple[str, str]
"""The names of a work and of a system."""


@dataclass(frozen=True, slots=True)
class Plan:
    works: Sequence[Work]
    systems: Sequence[System]
    messages: int
    seconds: float
    """For which a backlog is drained, at most."""
    rounds: int
    per_second: int
    """Messages, at the steady rate."""
    steady_seconds: float
    processes: int = 1
    """Of each system."""
    rest: float = 2.0

    def pairs(self) -> Iterator[tuple[Work, System]]:
        for work in self.works:
            for system in self.systems:
                if work.name in system.works:
                    yield work, system


@dataclass(slots=True)
class Found:
    backlogs: dict[Pair, list[Backlog]] = field(default_factory=dict)
    steady: dict[Pair, Steady] = field(default_factory=dict)
    failed: dict[Pair, str] = field(default_factory=dict)


def run(place: Place, plan: Plan, say: Say) -> Found:
    """All of it. What fails is said, and left out from there on."""
    found = Found()
    for step in [_backlog] * plan.rounds + [_steady] * bool(plan.steady_seconds):
        for work, system in plan.pairs():
            if (work.name, system.name) in found.failed:
                continue
            try:
                outcome = step(place, plan, found, work, system)
            except Unfinished as error:
                outcome = found.failed[work.name, system.name] = f"failed: {error}"
            say(f"{work.name}: {system.name}: {outcome}")
    return found


def _backlog(place: Place, plan: Plan, found: Found, work: Work, system: System) -> str:
    one = place.backlog(system, work, plan.messages, plan.seconds, processes=plan.processes)
    found.backlogs.setdefault((work.name, system.name), []).append(one)
    return f"{one.messages_per_second:,.0f} messages/s"


def _steady(place: Place, plan: Plan, found: Found, work: Work, system: System) -> str:
    one = place.steady(system, work, plan.per_second, plan.steady_seconds, plan.rest)
    found.steady[work.name, system.name] = one
    return f"p50 {median(one.ages or (0,)) * 1000:.1f} ms"


def document(found: Found) -> dict[str, Any]:
    """The figures as JSON: medians over the rounds, and `relay_is` times as fast as each, round by round."""
    backlog: dict[str, dict[str, Any]] = {}
    for (work, system), runs in found.backlogs.items():
        names = asdict(runs[0])
        figures: dict[str, Any] = {name: median(getattr(run, name) for run in runs) for name in names}
        relay = found.backlogs.get((work, "relay"), [])
        ratios = [
            ours.messages_per_second / theirs.messages_per_second
            for ours, theirs in zip(relay, runs, strict=False)
        ]
        figures["relay_is"] = median(ratios) if ratios else None
        figures["runs"] = [round(run.messages_per_second, 1) for run in runs]
        backlog.setdefault(work, {})[system] = figures
    steady: dict[str, dict[str, Any]] = {}
    for (work, system), one in found.steady.items():
        steady.setdefault(work, {})[system] = _late(one)
    failed = [{"work": work, "system": system, "why": why} for (work, system), why in found.failed.items()]
    return {"backlog": backlog, "steady": steady, "failed": failed}


def _late(one: Steady) -> dict[str, Any]:
    cuts = quantiles(one.ages, n=1000) if len(one.ages) > 1 else [float("nan")] * 999
    figures = {f"p{name}_ms": cuts[cut] * 1000 for name, cut in (("50", 499), ("99", 989), ("999", 998))}
    rest = asdict(one)
    del rest["ages"]
    return {**figures, **rest}
