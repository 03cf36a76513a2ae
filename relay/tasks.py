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
