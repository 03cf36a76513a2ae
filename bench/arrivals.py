"""The minimal receiver, which notes when each message arrived.

`python -m bench.arrivals` prints its port, then, for each line on standard input, one JSON line:
`arrivals`, a list of [Unix seconds, number, …] for each request that came since the last one, and `lag`, the
longest time in seconds by which the receiver itself was late. A message's number stands in its payload, as
`"n": 17`. With `--silent` it never answers.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

from bench.receiver import Receiver

_NUMBER = re.compile(rb'\\?"n\\?": ?(\d+)')
LOOK = 0.002
"""Seconds between two looks whether the receiver is late."""


class Notes(Receiver):
    """One connection, and what came in over all of them since the last look."""

    arrivals: list[list[float]] = []
    silent = False

    def data_received(self, data: bytes) -> None:
        if not self.silent:
            super().data_received(data)

    def _note(self, body: bytes) -> None:
        Notes.arrivals.append([time.time(), *(int(number) for number in _NUMBER.findall(body))])


class Lag:
    """How late the receiver's own timers are at worst."""

    worst = 0.0

    async def watch(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(LOOK)
            self.worst = max(self.worst, time.perf_counter() - asked - LOOK)


async def main() -> None:
    loop = asyncio.get_running_loop()
    Notes.silent = "--silent" in sys.argv
    server = await loop.create_server(Notes, "127.0.0.1", 0)
    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        arrivals, Notes.arrivals = Notes.arrivals, []
        print(json.dumps({"arrivals": arrivals, "lag": lag.worst}), flush=True)
        lag.worst = 0.0
    watching.cancel()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())
