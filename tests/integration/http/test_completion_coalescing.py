"""Completion coalescing: the event loop pauses only while responses arrive at a high rate."""

from __future__ import annotations

import asyncio

import pytest

from relay.http.completion_coalescing import CompletionCoalescer

PAUSE = 0.001


class Clock:
    """A clock that only pauses advance."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def time(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def coalescer(clock: Clock) -> CompletionCoalescer:
    return CompletionCoalescer(PAUSE, clock=clock.time, sleep=clock.pause)


async def complete(coalescer: CompletionCoalescer, clock: Clock, number: int, seconds: float) -> None:
    """So many responses arrive after so many seconds, and the loop handles them."""
    clock.now += seconds
    for _ in range(number):
        coalescer.completed()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_low_rate_of_responses_causes_no_pause(coalescer: CompletionCoalescer, clock: Clock) -> None:
    for _ in range(50):
        await complete(coalescer, clock, 1, seconds=0.001)
    assert not coalescer.busy
    assert clock.pauses == []


async def test_a_high_rate_of_responses_causes_a_pause_after_each_batch(
    coalescer: CompletionCoalescer, clock: Clock
) -> None:
    for _ in range(3):
        await complete(coalescer, clock, 40, seconds=0.004)
    assert coalescer.busy
    assert clock.pauses == [PAUSE] * 3


async def test_a_pause_waits_until_no_more_responses_are_ready(
    coalescer: CompletionCoalescer, clock: Clock
) -> None:
    await complete(coalescer, clock, 40, seconds=0.004)
    clock.pauses.clear()
    coalescer.completed()
    coalescer.completed()
    await asyncio.sleep(0)
    assert clock.pauses == [], "one more has arrived since the last check"
    await asyncio.sleep(0)
    assert clock.pauses == [PAUSE]


async def test_a_rate_that_falls_ends_the_pauses(coalescer: CompletionCoalescer, clock: Clock) -> None:
    await complete(coalescer, clock, 40, seconds=0.004)
    await complete(coalescer, clock, 1, seconds=0.5)
    assert not coalescer.busy
    await complete(coalescer, clock, 1, seconds=0.01)
    assert clock.pauses == [PAUSE]


def test_a_loop_that_ended_before_its_check_is_forgotten(
    coalescer: CompletionCoalescer, clock: Clock
) -> None:
    async def cut_short() -> None:
        coalescer.completed()

    asyncio.run(cut_short())
    asyncio.run(complete(coalescer, clock, 40, seconds=0.004))
    assert coalescer.busy
