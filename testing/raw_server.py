"""Servers on free loopback ports that send exactly the bytes that a test gives."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(
    handler: Handler, context: ssl.SSLContext | None = None, bound: socket.socket | None = None
) -> AsyncIterator[int]:
    """Run a server on a free loopback port, or on a `bound` one. Its connections end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the streams of asyncio report a cancelled handler as an error
        finally:
            writer.close()

    where: dict[str, Any] = {"host": "127.0.0.1", "port": 0} if bound is None else {"sock": bound}
    server = await asyncio.start_server(connected, ssl=context, **where)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def closed_port() -> Iterator[int]:
    """Reserve a loopback port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent_address(port: int = 0) -> Iterator[tuple[str, int]]:
    """A loopback address whose connections are neither accepted nor refused, as behind a firewall."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.2", port))
        full.listen(0)
        # If the backlog is full, Linux lets further attempts wait without an answer.
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request with a Content-Length, and return its bytes."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head


def says(answer: bytes) -> Handler:
    """Return a handler that reads one request, writes these bytes and closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return handler


def drips(beginning: bytes, more: bytes) -> Handler:
    """Answers a request with `beginning`, and then with one byte after the other, and never closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        for byte in more:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()

    return handler


def keeps_answering(seen: list[bytes]) -> Handler:
    """Return a handler that answers and records every request of a connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    return handler


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def linger_zero(writer: asyncio.StreamWriter) -> None:
    """Close with a reset."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def was_read(writer: asyncio.StreamWriter) -> None:
    """Return when the other side, on this machine, has read all written bytes, because a reset destroys the
    rest.

    Only Linux shows that. Other systems get a short wait.
    """
    await writer.drain()
    try:
        tables = Path("/proc/net/tcp"), Path("/proc/net/tcp6")
        ours, theirs = (writer.get_extra_info(end)[1] for end in ("sockname", "peername"))
        while any(_unread(table, theirs, ours) for table in tables):
            await asyncio.sleep(0.002)
    except OSError:
        await asyncio.sleep(1)  # this system does not show unread bytes


def _unread(table: Path, local: int, remote: int) -> bool:
    """Return whether the socket between these two ports has bytes that its process has not read."""
    for line in table.read_text().splitlines()[1:]:
        _, here, there, _, queues, *_ = line.split()
        if (int(here.rpartition(":")[2], 16), int(there.rpartition(":")[2], 16)) == (local, remote):
            return int(queues.partition(":")[2], 16) > 0
    return False
