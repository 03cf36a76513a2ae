"""A short run through many faults: every message is accounted for."""

from __future__ import annotations

from pathlib import Path

from tests.faults.chaos import report
from tests.faults.chaos.plan import make_plan
from tests.faults.chaos.run import run

SEED, SECONDS, MESSAGES = 3, 20, 2000

OPEN = frozenset({"inversion"})
"""Promises that are known not to be kept yet: two workers that take neighbours from one queue may put them
into their lane in the other order."""


async def test_every_message_is_accounted_for_through_many_faults(tmp_path: Path) -> None:
    plan = make_plan(SEED, SECONDS, MESSAGES, "single")
    assert len(plan.faults) >= 15
    result = await run(plan, tmp_path)
    broken = [violation for violation in result.verdict.violations if violation.rule not in OPEN]
    assert not broken, "\n".join(report.violations(result))
    assert len(result.evidence.windows) + len(result.skipped) == len(plan.faults)
    assert sum(pushed.certain for pushed in result.evidence.pushed.values()) > 0.9 * MESSAGES
