"""What a run says: a table for the documentation, each violation with all that is known about it, JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from chaos.evidence import OK
from chaos.ledger import Violation
from chaos.run import Result

MOST_TOLD = 8
"""Violations of one rule that are told at length."""


def markdown(result: Result) -> str:
    """The table of a run."""
    plan, evidence = result.plan, result.evidence
    faults = Counter(window.kind for window in evidence.windows)
    certain = sum(pushed.certain for pushed in evidence.pushed.values())
    lines = [
        f"**{plan.topology}**, seed {plan.seed}: {certain:,} messages acknowledged "
        f"({len(evidence.pushed) - certain} more pushed without an answer), {faults.total()} faults, "
        f"{result.seconds:.0f} s until all had ended, {len(evidence.arrivals):,} arrivals at the receivers, "
        f"**{len(result.verdict.violations)} violations**.",
        "",
        "| messages | how they ended |",
        "| --- | --- |",
    ]
    for kind, ends in sorted(result.verdict.table().items()):
        told = ", ".join(f"{number:,} {end}" for end, number in ends.most_common())
        lines.append(f"| {kind} | {told} |")
    again, explained = duplicates(result)
    lines += [
        "",
        f"Taken again by a receiver that had taken it: {again:,}"
        + "".join(f"; {number} explained by {kind}" for kind, number in explained.most_common())
        + ".",
        "",
        "| fault | times |",
        "| --- | --- |",
        *(f"| {kind} | {number} |" for kind, number in sorted(faults.items())),
    ]
    if result.skipped:
        lines += ["", f"Left out: {'; '.join(sorted(set(result.skipped)))}."]
    return "\n".join(lines)


def duplicates(result: Result) -> tuple[int, Counter[str]]:
    """How many deliveries came again after they had been taken, and the faults that explain them."""
    account, explained = result.verdict.account, Counter[str]()
    seen: set[tuple[int, str]] = set()
    again = 0
    for arrivals in account.arrivals.values():
        for arrival in reversed(arrivals):
            if arrival.answer != OK:
                continue
            if (arrival.number, arrival.target) in seen:
                again += 1
                window = account.explained(arrival)
                explained[window.kind if window else "nothing"] += 1
            seen.add((arrival.number, arrival.target))
    return again, explained


def violations(result: Result) -> Iterator[str]:
    """Each violation, the message, its story, and the faults near it; of many the first ones."""
    found = result.verdict.violations
    for rule, number in Counter(violation.rule for violation in found).most_common():
        yield f"{number} x {rule}"
    told = Counter[str]()
    for violation in found:
        told[violation.rule] += 1
        if told[violation.rule] <= MOST_TOLD:
            yield ""
            yield from _story(result, violation)


def _story(result: Result, violation: Violation) -> Iterator[str]:
    evidence, account = result.evidence, result.verdict.account
    start = min((pushed.asked for pushed in evidence.pushed.values()), default=0.0)
    when = "" if violation.at is None else f" (at {violation.at - start:.3f} s)"
    yield f"{violation.rule.upper()}: {violation.what}{when}"
    moments = [] if violation.at is None else [violation.at]
    if violation.number is not None:
        push = evidence.pushes[violation.number]
        yield f"  {push}"
        if pushed := evidence.pushed.get(push.number):
            answer = "acknowledged" if pushed.certain else "no answer"
            yield f"  pushed at {pushed.asked - start:.3f} s, {answer}"
            moments.append(pushed.at)
        for arrival in account.arrivals.get(push.number, ()):
            where = f" {arrival.target}" if arrival.target else ""
            yield f"  arrived at {arrival.at - start:.3f} s from {arrival.host}{where}: {arrival.answer}"
            moments.append(arrival.at)
        for receipt in account.receipts.get(push.id, ()) if push.id else ():
            yield (
                f"  receipt at {receipt.at - start:.3f} s: {receipt.outcome} {receipt.reason!r}, "
                f"{receipt.attempts} attempts {dict(receipt.targets) or ''}"
            )
        for letter in account.letters.get(push.number, ()):
            yield f"  dead letter in {letter.stream}: {letter.reason}"
    near = {window: None for moment in moments for window in evidence.near(moment)}
    for window in sorted(near, key=lambda window: window.start):
        whom = window.host or window.provider
        times = f"{window.start - start:.3f} to {window.end - start:.3f} s"
        yield f"  near: {times} {window.kind} {whom} {window.note}"


def as_data(result: Result) -> dict[str, Any]:
    """For a file."""
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
        "duplicates": {"total": again, "explained by": dict(explained)},
        "violations": [
            {"rule": one.rule, "what": one.what, "number": one.number} for one in result.verdict.violations
        ],
    }
