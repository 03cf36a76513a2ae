"""A short run through many faults: every message is accounted for."""

from __future__ import annotations

from pathlib import Path

from chaos import report
from chaos.plan import make_plan
from chaos.run import run

SEED, SECONDS, MESSAGES = 3, 20, 2000


async def test_every_message_is_accounted_for_through_many_faults(tmp_path: Path) -> None:
    plan = make_plan(SEED, SECONDS, MESSAGES, "single")
    assert len(plan.faults) >= 15
    result = await run(plan, tmp_path)
    assert not result.verdict.violations, "\n".join(report.violations(result))
    assert len(result.evidence.windows) + len(result.skipped) == len(plan.faults)
    assert sum(pushed.certain for pushed in result.evidence.pushed.values()) > 0.9 * MESSAGES
