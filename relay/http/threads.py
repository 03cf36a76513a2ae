"""Blocking calls in threads that do not delay the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def in_thread(call: Callable[[], ResultT], seconds: float) -> ResultT:
    """Return the result of a call. Raises TimeoutError after `seconds`; the thread then ends on its own."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[ResultT] = loop.create_future()

    def finish(result: ResultT | None, error: Exception | None) -> None:
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
        except Exception as error:  # raised again in the caller
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, result, failure)

    # Not a pool, because the threads of a pool are joined when the process ends.
    threading.Thread(target=work, daemon=True).start()
    async with asyncio.timeout(seconds):
        return await ended
