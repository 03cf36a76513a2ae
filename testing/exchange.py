"""A server that answers in steps, over HTTP/1.1 or HTTP/2: one scene for tests of both protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn, Protocol

from h2.errors import ErrorCodes

from testing.http2_peer import Asked, Peer
from testing.raw_server import linger_zero, read_request, was_read

Headers = tuple[tuple[str, str], ...]


class GivenUp(ConnectionError):
    """The client has ended the exchange, but not its connection."""


class Exchange(Protocol):
    """One request, and the answer to it. A step raises ConnectionError if the client has gone."""

    async def inform(self, status: int, headers: Headers = ()) -> None:
        """Send an informational response."""

    async def head(self, status: int, headers: Headers = ()) -> None: ...

    async def data(self, part: bytes) -> None: ...

    async def finish(self) -> None:
        """End the body."""

    async def was_read(self) -> None:
        """Return when the client has read the answer so far."""

    async def gone(self) -> None:
        """Return when the client has given the exchange up."""

    async def reset(self) -> None:
        """Break the exchange off, with an error."""

    async def abort(self) -> None:
        """End the connection with a TCP reset."""

    async def answer(self, status: int = 200, body: bytes = b"{}", headers: Headers = ()) -> None:
        await self.head(status, headers)
        await self.data(body)
        await self.finish()

    def close(self) -> NoReturn:
        """End the connection properly."""
        raise ConnectionAbortedError


Behave = Callable[[Exchange], Awaitable[None]]


class Http1Exchange(Exchange):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def inform(self, status: int, headers: Headers = ()) -> None:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        await self._send(f"HTTP/1.1 {status} X\r\n{fields}\r\n".encode())

    async def head(self, status: int, headers: Headers = ()) -> None:
        await self.inform(status, (*headers, ("transfer-encoding", "chunked")))

    async def data(self, part: bytes) -> None:
        if part:
            await self._send(b"%x\r\n%b\r\n" % (len(part), part))

    async def finish(self) -> None:
        await self._send(b"0\r\n\r\n")

    async def was_read(self) -> None:
        await was_read(self._writer)

    async def gone(self) -> None:
        await self._reader.read()

    async def reset(self) -> None:
        linger_zero(self._writer)

    abort = reset

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


class Http2Exchange(Exchange):
    def __init__(self, peer: Peer, asked: Asked) -> None:
        self._peer, self._stream, self._asked = peer, asked.stream, asked

    async def inform(self, status: int, headers: Headers = ()) -> None:
        self._peer.h2.send_headers(self._stream, [(":status", str(status)), *headers])
        await self._peer.flush()

    head = inform

    async def data(self, part: bytes) -> None:
        while part:
            if self._stream in self._peer.resets:
                raise GivenUp
            if room := min(self._peer.h2.local_flow_control_window(self._stream), 16384):
                self._peer.h2.send_data(self._stream, part[:room])
                part = part[room:]
                await self._peer.flush()
            else:
                await self._peer.read()

    async def finish(self) -> None:
        self._peer.h2.end_stream(self._stream)
        await self._peer.flush()

    async def was_read(self) -> None:
        await self._peer.settled()

    async def gone(self) -> None:
        while self._stream not in self._peer.resets:
            await self._peer.read()

    async def reset(self) -> None:
        await self._peer.reset(self._asked, ErrorCodes.INTERNAL_ERROR)

    async def abort(self) -> None:
        self._peer.abort()


class Stage:
    """Serves the first request by the first behaviour, and so on; the last one stays."""

    def __init__(self, *behaviours: Behave) -> None:
        self._behaviours = behaviours
        self.requests = 0

    async def _play(self, exchange: Exchange) -> None:
        self.requests += 1
        await self._behaviours[min(self.requests, len(self._behaviours)) - 1](exchange)

    async def http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await self._play(Http1Exchange(reader, writer))

    async def http2(self, peer: Peer) -> None:
        await peer.start()
        while True:
            with suppress(GivenUp):
                await self._play(Http2Exchange(peer, await peer.request()))
