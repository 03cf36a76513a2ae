"""A minimal HTTP/1.1 receiver on asyncio's lowest level: counts requests and measures the age of messages.

`python -m bench.receiver` prints its port. For each line on standard input it prints one JSON line about the
requests since the previous line. `"t": <Unix seconds>` in a payload is the time of the push.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

# A number or a string, also inside a string.
_SENT = re.compile(rb'\\*"t\\*": ?\\*"?(\d+\.\d+)')
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Counts:
    """The requests since the previous report."""

    def __init__(self) -> None:
        self.requests = 0
        self.first = self.last = 0.0
        self.ages: list[float] = []


class Receiver(asyncio.Protocol):
    """One connection. Only Content-Length is supported, because the clients send nothing else."""

    counts = Counts()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._note(body)
            self._transport.write(self._answer(head))  # type: ignore[attr-defined]

    def _answer(self, head: bytes) -> bytes:
        return ANSWER

    def _note(self, body: bytes) -> None:
        now = time.time()
        counts = Receiver.counts
        counts.requests += 1
        counts.first = counts.first or now
        counts.last = now
        counts.ages += (now - sent for sent in pushed(body))


def pushed(body: bytes) -> list[float]:
    """Return the push times of the messages in a body, in Unix seconds."""
    return [float(sent) for sent in _SENT.findall(body)]


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        counts, Receiver.counts = Receiver.counts, Counts()
        print(json.dumps(vars(counts)), flush=True)


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())
