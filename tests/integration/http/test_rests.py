import asyncio

import pytest

from relay.http import rests
from relay.http.rests import Rests


class Clock:
    """A clock that rests make go on, and nothing else."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rests: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def select(self, *arguments: object) -> None:
        seconds = arguments[-1]
        assert isinstance(seconds, float)
        self.rests.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rests, "time", clock)
    monkeypatch.setattr(rests, "select", clock)
    return clock


async def dealt_with() -> None:
    """The loop has gone round, and round again."""
    for _ in range(3):
        await asyncio.sleep(0)


async def answers(taken: Rests, clock: Clock, number: int, seconds: float) -> None:
    clock.now += seconds
    for _ in range(number):
        taken.answered()
    await dealt_with()


async def test_answers_that_come_now_and_then_are_taken_at_once(clock: Clock) -> None:
    taken = Rests()
    for _ in range(50):
        await answers(taken, clock, 1, seconds=0.001)
    assert not taken.busy
    assert clock.rests == []


async def test_where_they_come_thick_and_fast_the_loop_rests_after_each_batch(clock: Clock) -> None:
    taken = Rests()
    for _ in range(3):
        await answers(taken, clock, 40, seconds=0.004)
    assert taken.busy
    assert clock.rests == [rests.REST] * 3


async def test_it_rests_once_nothing_more_comes(clock: Clock) -> None:
    taken = Rests()
    await answers(taken, clock, 40, seconds=0.004)
    clock.rests.clear()
    taken.answered()
    taken.answered()
    await asyncio.sleep(0)
    assert clock.rests == [], "there was one more since the last look"
    await asyncio.sleep(0)
    assert clock.rests == [rests.REST]


async def test_it_rests_no_more_once_they_are_few_again(clock: Clock) -> None:
    taken = Rests()
    await answers(taken, clock, 40, seconds=0.004)
    await answers(taken, clock, 1, seconds=0.5)
    assert not taken.busy
    await answers(taken, clock, 1, seconds=0.01)
    assert clock.rests == [rests.REST]


def test_a_loop_that_ended_before_it_looked_is_forgotten(clock: Clock) -> None:
    taken = Rests()

    async def cut_short() -> None:
        taken.answered()

    asyncio.run(cut_short())
    asyncio.run(answers(taken, clock, 40, seconds=0.004))
    assert taken.busy
