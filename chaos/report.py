"""The report of a run: a table for the documentation, details of each violation, and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from chaos.evidence import OK
from chaos.ledger import Violation
from chaos.ledger.groups import delays
from chaos.messages import FAILING_GROUPS, HEALTHY_GROUPS, HEALTHY_LANE, MIXED_LANE
from chaos.run import Result

MOST_EXPLAINED = 8
"""Violations of one rule that are described in detail."""


def markdown(result: Result) -> str:
    """Return the table of a run."""
    plan, evidence = result.plan, result.evidence
    faults = Counter(window.kind for window in evidence.windows)
    certain = sum(pushed.certain for pushed in evidence.pushed.values())
    lines = [
        f"**{plan.topology}**, seed {plan.seed}: {certain:,} messages acknowledged "
        f"({len(evidence.pushed) - certain} more pushed without an answer), {faults.total()} faults, "
        f"{result.seconds:.0f} s until all messages had ended, "
        f"{len(evidence.arrivals):,} arrivals at the receivers, "
        f"**{len(result.verdict.violations)} violations**.",
        "",
        "| messages | how they ended |",
        "| --- | --- |",
    ]
    for kind, ends in sorted(result.verdict.table().items()):
        outcomes = ", ".join(f"{number:,} {end}" for end, number in ends.most_common())
        lines.append(f"| {kind} | {outcomes} |")
    lines += ["", *groups(result)]
    again, explained = duplicates(result)
    lines += [
        "",
        f"Accepted again by a receiver that had accepted it before: {again:,}"
        + "".join(f"; {number} explained by {kind}" for kind, number in explained.most_common())
        + ".",
        "",
        "| fault | times |",
        "| --- | --- |",
        *(f"| {kind} | {number} |" for kind, number in sorted(faults.items())),
    ]
    if result.skipped:
        lines += ["", f"Skipped: {'; '.join(sorted(set(result.skipped)))}."]
    return "\n".join(lines)


def groups(result: Result) -> Iterator[str]:
    """A table of groups: how long their messages took, and how long they took without failing groups."""
    found = delays(result.verdict.index)
    yield "| group | messages | delay p50, p99, s | messages | without failing groups: p50, p99, s |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for group in (*HEALTHY_GROUPS, *FAILING_GROUPS):
        cells = [_delays(found[lane].get(group, ())) for lane in (MIXED_LANE, HEALTHY_LANE)]
        yield f"| {group} | {' | '.join(cells)} |"


def _delays(seconds: Sequence[float]) -> str:
    if not seconds:
        return "0 | "
    cuts = sorted(seconds)
    return f"{len(cuts)} | {median(cuts):.2f}, {cuts[int(len(cuts) * 0.99)]:.2f}"


def duplicates(result: Result) -> tuple[int, Counter[str]]:
    """Return the number of repeated deliveries, and the faults that explain them."""
    index, explained = result.verdict.index, Counter[str]()
    seen: set[tuple[int, str]] = set()
    again = 0
    for arrivals in index.arrivals.values():
        for arrival in reversed(arrivals):
            if arrival.answer != OK:
                continue
            if (arrival.number, arrival.target) in seen:
                again += 1
                window = index.explained(arrival)
                explained[window.kind if window else "nothing"] += 1
            seen.add((arrival.number, arrival.target))
    return again, explained


def violations(result: Result) -> Iterator[str]:
    """Describe each violation with its message, its history, and the faults near it; for each rule only the
    first ones."""
    found = result.verdict.violations
    for rule, number in Counter(violation.rule for violation in found).most_common():
        yield f"{number} x {rule}"
    described = Counter[str]()
    for violation in found:
        described[violation.rule] += 1
        if described[violation.rule] <= MOST_EXPLAINED:
            yield ""
            yield from _history(result, violation)


def _history(result: Result, violation: Violation) -> Iterator[str]:
    evidence, index = result.evidence, result.verdict.index
    start = min((pushed.started for pushed in evidence.pushed.values()), default=0.0)
    when = "" if violation.at is None else f" (at {violation.at - start:.3f} s)"
    yield f"{violation.rule.upper()}: {violation.what}{when}"
    moments = [] if violation.at is None else [violation.at]
    if violation.number is not None:
        push = evidence.pushes[violation.number]
        yield f"  {push}"
        if pushed := evidence.pushed.get(push.number):
            answer = "acknowledged" if pushed.certain else "no answer"
            yield f"  pushed at {pushed.started - start:.3f} s, {answer}"
            moments.append(pushed.at)
        for arrival in index.arrivals.get(push.number, ()):
            where = f" {arrival.target}" if arrival.target else ""
            yield f"  arrived at {arrival.at - start:.3f} s from {arrival.host}{where}: {arrival.answer}"
            moments.append(arrival.at)
        for receipt in index.receipts.get(push.id, ()) if push.id else ():
            yield (
                f"  receipt at {receipt.at - start:.3f} s: {receipt.outcome} {receipt.reason!r}, "
                f"{receipt.attempts} attempts {dict(receipt.targets) or ''}"
            )
        for letter in index.letters.get(push.number, ()):
            yield f"  dead letter in {letter.stream}: {letter.reason}"
    near = {window: None for moment in moments for window in evidence.near(moment)}
    for window in sorted(near, key=lambda window: window.start):
        whom = window.host or window.provider
        times = f"{window.start - start:.3f} to {window.end - start:.3f} s"
        yield f"  near: {times} {window.kind} {whom} {window.note}"


def as_data(result: Result) -> dict[str, Any]:
    """Return the JSON form of a result."""
    again, explained = duplicates(result)
    return {
        "seed": result.plan.seed,
        "topology": result.plan.topology,
        "digest": result.plan.digest(),
        "seconds": round(result.seconds, 1),
        "messages": len(result.plan.pushes),
        "acknowledged": sum(pushed.certain for pushed in result.evidence.pushed.values()),
        "arrivals": len(result.evidence.arrivals),
        "ends": {kind: dict(ends) for kind, ends in result.verdict.table().items()},
        "faults": dict(Counter(window.kind for window in result.evidence.windows)),
        "skipped": result.skipped,
        "delays": {lane: dict(groups) for lane, groups in delays(result.verdict.index).items()},
        "duplicates": {"total": again, "explained by": dict(explained)},
        "violations": [
            {"rule": one.rule, "what": one.what, "number": one.number} for one in result.verdict.violations
        ],
    }
