import asyncio
from collections.abc import Awaitable, Callable

import pytest

from relay.deadlines import Deadlines

Step = Callable[[], Awaitable[object]]


async def bounded(deadlines: Deadlines, step: Step) -> str:
    """'done', 'late', or the CancelledError that was somebody else's."""
    task = deadlines.begin()
    try:
        await step()
    except asyncio.CancelledError:
        if not deadlines.end(task):
            raise
        return "late"
    deadlines.end(task)
    return "done"


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    await asyncio.sleep(0)


async def test_what_ends_in_time_is_let_be() -> None:
    deadlines = Deadlines(60)
    assert await asyncio.gather(*(bounded(deadlines, at_once) for _ in range(5))) == ["done"] * 5


async def test_what_hangs_is_cancelled_each_at_its_own_time() -> None:
    deadlines = Deadlines(0.05)
    assert await asyncio.gather(*(bounded(deadlines, forever) for _ in range(5))) == ["late"] * 5
    assert await bounded(deadlines, forever) == "late"


async def test_one_timer_serves_all_and_ends_with_them() -> None:
    deadlines = Deadlines(0.1)
    slow = asyncio.create_task(bounded(deadlines, forever))
    await asyncio.sleep(0)
    for _ in range(100):
        assert await bounded(deadlines, at_once) == "done"
    assert await slow == "late"


async def test_a_task_goes_on_after_its_deadline_as_if_nothing_had_been() -> None:
    deadlines = Deadlines(0.02)
    assert await bounded(deadlines, forever) == "late"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with asyncio.timeout(30):
        assert await bounded(deadlines, at_once) == "done"


async def test_a_cancellation_by_others_is_theirs() -> None:
    deadlines = Deadlines(60)
    task = asyncio.create_task(bounded(deadlines, forever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_by_others_wins_over_a_deadline_that_passed() -> None:
    deadlines = Deadlines(0.02)
    ending = asyncio.Event()

    async def cleans_up_slowly() -> None:
        try:
            await forever()
        finally:
            ending.set()
            await at_once()

    task = asyncio.create_task(bounded(deadlines, cleans_up_slowly))
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_takes_no_notice_of_its_end_ends_late_but_well() -> None:
    deadlines = Deadlines(0.02)

    async def stubborn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await at_once()

    assert await bounded(deadlines, stubborn) == "done"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
