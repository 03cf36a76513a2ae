"""An HTTP/2 server for tests, frame by frame, which can violate the protocol.

`peering(folder, behave)` serves each connection by `behave(peer)`, a coroutine that reads requests and sends
any frames at any time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, PingAckReceived, PingReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame, SettingsFrame

from testing.http2_server import certificates


@dataclass
class Asked:
    """One complete request of a client."""

    stream: int
    headers: list[tuple[str, str]]
    body: bytearray = field(default_factory=bytearray)

    def __getitem__(self, name: str) -> str:
        return dict(self.headers)[name]


class Peer:
    """One connection. Frames are sent immediately."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._open: dict[int, Asked] = {}
        self._whole: deque[Asked] = deque()
        self._streams = 100
        self.resets: set[int] = set()
        self.refused = 0
        self.pings = 0
        self._acknowledged = False
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))

    async def start(self, streams: int = 100) -> None:
        """Start, and allow this many concurrent streams."""
        self.h2.initiate_connection()
        await self.allow(streams)

    async def allow(self, streams: int) -> None:
        """Set SETTINGS_MAX_CONCURRENT_STREAMS. Streams beyond it are refused, as by real servers.

        The frame is built by hand, because h2 ends the whole connection if a client exceeds the limit that h2
        knows.
        """
        self._streams = streams
        self._writer.write(self.h2.data_to_send())
        settings = {SettingsFrame.MAX_CONCURRENT_STREAMS: streams}
        self._writer.write(SettingsFrame(0, settings=settings).serialize())
        await self._writer.drain()

    async def request(self) -> Asked:
        """Return the next request. Raises ConnectionError if the client closes the connection."""
        while not self._whole:
            await self.read()
        return self._whole.popleft()

    async def read(self) -> None:
        """Return the next event of any kind. PINGs and SETTINGS are acknowledged."""
        data = await self._reader.read(65536)
        if not data:
            raise ConnectionResetError
        for event in self.h2.receive_data(data):
            match event:
                case RequestReceived(stream_id=int(stream), headers=headers):
                    if self.h2.open_inbound_streams > self._streams:
                        self.refused += 1
                        self.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
                    else:
                        self._open[stream] = Asked(stream, [(str(name), str(text)) for name, text in headers])
                case DataReceived(stream_id=int(stream), data=bytes(part)) if stream in self._open:
                    self._open[stream].body += part
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                case StreamEnded(stream_id=int(stream)) if stream in self._open:
                    self._whole.append(self._open.pop(stream))
                case StreamReset(stream_id=int(stream)):
                    self.resets.add(stream)
                case PingReceived():
                    self.pings += 1
                case PingAckReceived():
                    self._acknowledged = True
        await self.flush()

    async def answer(
        self, asked: Asked, status: int = 200, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.h2.send_headers(asked.stream, [(":status", str(status)), *headers], end_stream=not body)
        if body:
            self.h2.send_data(asked.stream, body, end_stream=True)
        await self.flush()

    async def reset(self, asked: Asked, code: ErrorCodes = ErrorCodes.REFUSED_STREAM) -> None:
        self.h2.reset_stream(asked.stream, code)
        await self.flush()

    async def goaway(self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR, why: bytes = b"") -> None:
        """Send a GOAWAY: streams above `last` were not processed (RFC 9113, 6.8); the others can still be
        answered."""
        frame = GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=why)
        self._writer.write(frame.serialize())
        await self._writer.drain()

    async def settled(self) -> None:
        """Return when the client has acknowledged a PING, and therefore has read all earlier frames."""
        self.h2.ping(b"settled?")
        await self.flush()
        while not self._acknowledged:
            await self.read()

    def hang_up(self) -> None:
        """Close like most servers, without waiting for the client."""
        self._writer.close()
        self._writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def closed(self) -> None:
        """Close, and return when the client knows."""
        self._writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()

    async def write(self, frames: bytes) -> None:
        """Send frames as they are."""
        self._writer.write(frames)
        await self._writer.drain()

    async def skip(self) -> None:
        """Read some bytes and ignore them. Raises ConnectionError if the client closes."""
        if not await self._reader.read(65536):
            raise ConnectionResetError

    async def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())
        await self._writer.drain()

    def abort(self) -> None:
        """End with a TCP reset, without a GOAWAY."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Behaviour = Callable[[Peer], Awaitable[None]]


@dataclass
class Peering:
    """The address of the server, its certificate authority, and its number of connections."""

    url: str
    ca: str
    folder: Path
    connections: int = 0


@asynccontextmanager
async def peering(folder: Path, *behaviours: Behaviour) -> AsyncIterator[Peering]:
    """Run a server that serves its first connection by the first behaviour, and so on. The last one is
    repeated."""
    authority, certificate, key = certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        behave = behaviours[min(running.connections, len(behaviours) - 1)]
        running.connections += 1
        try:
            await behave(Peer(reader, writer))
        except (ConnectionError, ssl.SSLError, ProtocolError, asyncio.CancelledError):
            pass  # the client has disconnected, or the test has ended
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    running = Peering(f"https://127.0.0.1:{port}", authority.read_text(), folder)
    try:
        yield running
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
