"""A part that fails is started again after growing waits, and is reported until it has recovered."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from relay.engine.parts import Parts, Tuning

QUICK = Tuning(first=0.001, longest=0.002)


class Clock:
    """Seconds that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Failing:
    """A loop that raises these exceptions, one in each run, and then runs until it is cancelled."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = [*errors]
        self.well = asyncio.Event()

    async def run(self) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self.well.set()
        await asyncio.Event().wait()


async def kept(parts: Parts, failing: Failing) -> None:
    """Return when the loop runs; then cancel it."""
    task = asyncio.create_task(parts.keep("lane pusher", failing.run))
    await asyncio.wait_for(failing.well.wait(), 20)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("x"), SystemExit(0), asyncio.CancelledError(), MemoryError(), OSError(24, "files")],
)
async def test_a_part_that_fails_starts_again(error: BaseException) -> None:
    parts = Parts(QUICK)
    with capture_logs() as logged:
        await kept(parts, Failing(error, error))
    assert parts.failures == {"lane pusher": 2}
    assert [(line["part"], line["exc_info"]) for line in logged] == [("lane pusher", error)] * 2


async def test_a_part_that_fails_stops_no_other() -> None:
    parts, well = Parts(Tuning(first=3600, longest=3600)), Failing()
    failing = asyncio.create_task(parts.keep("lane a", Failing(KeyError("x")).run))
    other = asyncio.create_task(parts.keep("lane b", well.run))
    await asyncio.wait_for(well.well.wait(), 20)
    assert parts.troubles() == ["lane a: KeyError('x')"]
    assert not failing.done()
    for task in (failing, other):
        task.cancel()
    await asyncio.wait([failing, other])


async def test_a_wait_grows_to_its_limit_and_restarts_after_a_healthy_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    clock, sleep = Clock(), asyncio.sleep
    monkeypatch.setattr("relay.engine.parts.random.uniform", lambda low, high: high)

    async def sleeping(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("relay.engine.parts.asyncio.sleep", sleeping)
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 7:
            clock.now += 60
        if runs < 9:
            raise KeyError(runs)

    await Parts(Tuning(first=1, longest=8, healthy=60), clock).keep("x", run)
    assert waits == [1, 2, 4, 8, 8, 8, 1, 2]


async def test_a_part_that_runs_again_is_no_trouble_any_more() -> None:
    clock = Clock()
    parts = Parts(Tuning(first=0.001, longest=0.002), clock)
    await kept(parts, Failing(ValueError("bad\nthing")))
    assert parts.troubles() == [r"lane pusher: ValueError('bad\nthing')"]
    clock.now += 1
    assert parts.troubles() == []
    assert parts.failures == {"lane pusher": 1}


async def test_a_part_that_fails_while_it_is_cancelled_is_not_started_again() -> None:
    parts, runs = Parts(QUICK), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("cannot close")

    task = asyncio.create_task(parts.keep("x", run))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    assert runs == 1
