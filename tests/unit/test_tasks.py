import asyncio

import pytest

from relay import tasks


async def ends(result: object) -> object:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


@pytest.mark.parametrize("result", [1, None, KeyError("x")])
async def test_the_result_or_exception_of_a_task_is_passed_to_the_callback(result: object) -> None:
    notified: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    task = tasks.start(ends(result), lambda task, end: notified.set_result((task, end)))
    assert await notified == (task, result)


async def test_the_end_of_a_cancelled_task_calls_nothing() -> None:
    notified: list[object] = []
    task = tasks.start(asyncio.Event().wait(), lambda task, end: notified.append(end))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert notified == []


async def test_a_step_ends_before_its_caller_is_cancelled() -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def step() -> None:
        await may_end.wait()
        ended.set()

    caller = asyncio.create_task(tasks.run_to_end(step()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    may_end.set()
    await asyncio.wait([caller])
    assert caller.cancelled()
    assert ended.is_set()


async def test_a_failure_of_a_step_reaches_its_cancelled_caller() -> None:
    caller = asyncio.create_task(tasks.run_to_end(ends(KeyError("x"))))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(KeyError):
        await caller
