"""Helpers to start, await and cancel coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


def start(
    coroutine: Coroutine[Any, Any, ResultT],
    on_end: Callable[[asyncio.Task[ResultT], ResultT | Exception], None],
) -> asyncio.Task[ResultT]:
    """Run a coroutine in a task. `on_end` gets its result or exception, unless the task is cancelled."""
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(partial(_notify, on_end))
    return task


def _notify(
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


async def run_until(stop: asyncio.Event, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT | None:
    """Return the result of a coroutine. If `stop` is set first, cancel the coroutine and return None."""
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


async def wait_for_any(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Return when one of the events is set, or after `seconds`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def run_to_end(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine. If the caller is cancelled, finish the coroutine first."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.result()
        raise
