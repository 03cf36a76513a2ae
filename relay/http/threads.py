"""Blocking calls of libraries, in threads that do not keep the process from its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def in_thread(call: Callable[[], ResultT], seconds: float) -> ResultT:
    """The result of a call. Raises TimeoutError after `seconds`, and lets the thread end on its own."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[ResultT] = loop.create_future()

    def tell(result: ResultT | None, error: Exception | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except Exception as error:  # of any kind: it is raised in the caller
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, failure)

    # Not a pool: its threads are joined when the process ends.
    threading.Thread(target=work, daemon=True).start()
    async with asyncio.timeout(seconds):
        return await ended
