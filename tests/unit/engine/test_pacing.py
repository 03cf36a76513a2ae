"""Claimed messages are sent evenly, and as fast as the rate allows."""

from __future__ import annotations

import asyncio
import selectors
from bisect import bisect_left
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from relay.engine.pacing import Pace, Paces
from relay.settings.values import parse_rate

ResultT = TypeVar("ResultT")


class _Timers(selectors.DefaultSelector):
    """Never waits: a wait only advances the clock, by more than the requested time."""

    def __init__(self, late: float) -> None:
        super().__init__()
        self.now = 1000.0
        self._late = late

    def select(self, timeout: float | None = None) -> list[Any]:
        # Always advance a little: otherwise a rounding error could make a wait endless.
        self.now += 1e-6 + (timeout + self._late if timeout else 0.0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop with its own clock, whose timers are late by this much."""

    def __init__(self, late: float) -> None:
        self._timers = _Timers(late)
        super().__init__(self._timers)

    def time(self) -> float:
        return self._timers.now


def run(main: Coroutine[Any, Any, ResultT], *, late: float) -> ResultT:
    with asyncio.Runner(loop_factory=lambda: _Loop(late)) as runner:
        return runner.run(main)


async def leaving(rate: str, batch: int, messages: int) -> list[float]:
    """The times of the messages, in seconds from the first one."""
    pace, clock = Pace(parse_rate(rate).per_second, batch), asyncio.get_running_loop().time
    times: list[float] = []
    while len(times) < messages:
        await pace.wait(batch)
        times += [clock()] * batch
    return [at - times[0] for at in times]


@pytest.mark.parametrize("batch", [1, 10])
@pytest.mark.parametrize("rate", [10, 50, 100, 200, 1_000, 2_000, 10_000])
def test_timers_that_are_late_do_not_make_it_slower_than_the_rate(rate: int, batch: int) -> None:
    times = run(leaving(f"{rate}/s", batch, messages=batch * 300), late=0.002)
    assert len(times) / times[-1] > rate


@pytest.mark.parametrize("late", [0.0, 0.002])
@pytest.mark.parametrize("rate", [10, 100, 1_000, 10_000])
def test_claimed_messages_are_sent_evenly_instead_of_in_bursts(rate: int, late: float) -> None:
    times = run(leaving(f"{rate}/s", 1, messages=1_000), late=late)
    window = 0.05
    most = max(bisect_left(times, start + window) - index for index, start in enumerate(times))
    # The messages that may leave together, those of the lateness of a timer, and those of the window itself.
    assert most <= max(1, rate * 0.01) + rate * 0.005 + 1.1 * rate * window + 1


def test_a_message_without_a_rate_limit_does_not_wait() -> None:
    async def pace() -> Pace | None:
        return Paces((), 1).at(None)

    assert run(pace(), late=0.0) is None


def test_a_rate_of_an_operator_replaces_the_configured_pace_until_it_ends() -> None:
    async def sent_in_a_second(paces: Paces, override: float | None) -> int:
        pace, clock = paces.at(override), asyncio.get_running_loop().time
        assert pace is not None
        until, sent = clock() + 1.0, 0
        while clock() < until:
            await pace.wait(1)
            sent += 1
        return sent

    async def sent() -> list[int]:
        paces = Paces((parse_rate("100/s"), parse_rate("9000/m")), 1)
        return [await sent_in_a_second(paces, override) for override in (None, 1000.0, None, 10.0)]

    configured, faster, again, slower = run(sent(), late=0.0)
    assert 100 <= configured <= 120
    assert 1000 <= faster <= 1200
    assert 100 <= again <= 120
    assert 10 <= slower <= 13
