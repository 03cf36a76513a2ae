"""A short run through many faults: every message is accounted for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from chaos import report
from chaos.harness import watch_lag
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


async def test_a_process_that_stops_was_late_for_all_of_the_time() -> None:
    """Answers that wait meanwhile get the time of its end."""
    lags: list[tuple[float, float]] = []
    watching = asyncio.create_task(watch_lag(lags))
    await asyncio.sleep(0)
    began = time.monotonic()
    time.sleep(0.3)  # noqa: ASYNC251  stops the event loop
    stopped = time.monotonic() - began
    async with asyncio.timeout(60):
        while not lags:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert max(lag for _, lag in lags) >= stopped
