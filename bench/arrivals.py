"""A minimal receiver that records when each message arrived.

`python -m bench.arrivals` prints its port. For each line on standard input it prints one JSON line:
`arrivals`, a list of [Unix seconds, number, …] for each request since the previous line, and `lag`, the
longest delay of the receiver itself in seconds. The number of a message is in its payload, as `"n": 17`. With
`--silent` the receiver never answers. With `--prompt` it runs before all other processes, if it may (Linux,
root), so that it is not late on a busy machine. The first segment of a path selects another answer: `hang`,
`throttle` or `fail`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from contextlib import suppress

from bench.receiver import ANSWER, Receiver

_NUMBER = re.compile(rb'\\?"n\\?": ?(\d+)')
_EMPTY = b"\r\nContent-Length: 0\r\n\r\n"
ANSWERS = {
    b"hang": b"",
    b"throttle": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600" + _EMPTY,
    b"fail": b"HTTP/1.1 500 Internal Server Error" + _EMPTY,
}
"""The answer by the first segment of the path. Default: 200."""

INTERVAL = 0.002
"""Seconds between two checks of the receiver's own delay."""


class ArrivalRecorder(Receiver):
    """One connection. `arrivals` holds the new arrivals of all connections."""

    arrivals: list[list[float]] = []
    silent = False

    def data_received(self, data: bytes) -> None:
        if not self.silent:
            super().data_received(data)

    def _answer(self, head: bytes) -> bytes:
        return ANSWERS.get(head.split(b"/", 2)[1], ANSWER)

    def _note(self, body: bytes) -> None:
        ArrivalRecorder.arrivals.append([time.time(), *(int(number) for number in _NUMBER.findall(body))])


class Lag:
    """The worst delay of the receiver's own timers."""

    worst = 0.0

    async def watch(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(INTERVAL)
            self.worst = max(self.worst, time.perf_counter() - asked - INTERVAL)


def run_first() -> None:
    """Run before all other processes from now on, if that is allowed."""
    if hasattr(os, "SCHED_FIFO"):
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


async def main() -> None:
    if "--prompt" in sys.argv:
        run_first()
    loop = asyncio.get_running_loop()
    ArrivalRecorder.silent = "--silent" in sys.argv
    server = await loop.create_server(ArrivalRecorder, "127.0.0.1", 0)
    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        arrivals, ArrivalRecorder.arrivals = ArrivalRecorder.arrivals, []
        print(json.dumps({"arrivals": arrivals, "lag": lag.worst}), flush=True)
        lag.worst = 0.0
    watching.cancel()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())
