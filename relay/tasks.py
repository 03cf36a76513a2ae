"""Coroutines for those who wait by a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


def begin(
    coroutine: Coroutine[Any, Any, ResultT],
    on_end: Callable[[asyncio.Task[ResultT], ResultT | Exception], None],
) -> asyncio.Task[ResultT]:
    """Run it in a task of its own. `on_end` hears its result or its failure, unless the task is cancelled."""
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(partial(_tell, on_end))
    return task


def _tell(
    on_end: Callable[[asyncio.Task[ResultT], ResultT | Exception], None], task: asyncio.Task[ResultT]
) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        on_end(task, task.result())
    elif isinstance(error, Exception):
        on_end(task, error)
    else:
        raise error


async def unless(stop: asyncio.Event, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT | None:
    """Its result; None if `stop` is set before it has ended: then it is cancelled."""
    task = asyncio.ensure_future(coroutine)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1)
    return task.result() if task.done() and not task.cancelled() else None


async def to_its_end(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Its result. It is completed also if its caller is cancelled: only then comes the CancelledError."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.result()
        raise
