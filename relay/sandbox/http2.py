"""An HTTP/2 server over TLS (RFC 9113), for the emulators of providers that speak HTTP/2."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qsl, unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame
from multidict import CIMultiDict, MultiDict

from relay.sandbox.exchange import Answer, Call, succeeds
from relay.sandbox.faults import Ending

LARGEST = 1 << 16
"""Bytes of a body that are kept; the rest is read and dropped."""

STREAMS = 1000
"""Concurrent requests of a connection that has authenticated. Before that it may have one, as at APNs."""

GRACE = 0.5
"""Seconds that clients get to disconnect when the server stops."""

GOAWAY_DATA = b'{"reason":"Shutdown"}'
"""The debug data of a GOAWAY, as APNs sends it."""

Attend = Callable[[Call], Awaitable[Answer | Ending]]


@dataclass(slots=True)
class _Incoming:
    headers: list[tuple[bytes, bytes]]
    body: bytearray = field(default_factory=bytearray)


class Http2Server:
    """Listens between `start` and `stop`. `attend` answers each request, in a task of its own."""

    def __init__(self, attend: Attend, backlog: int) -> None:
        self.attend = attend
        self.port = 0
        self.connections: set[_Connection] = set()
        self.numbers = itertools.count(1)
        self._backlog = backlog
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> None:
        """Start to listen. Raises OSError if that fails, for example because the port is taken."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), host or None, port, ssl=context, backlog=self._backlog
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Send GOAWAY to all connections (RFC 9113, 6.8) and close them."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for connection in tuple(self.connections):
            connection.send_goaway()
        closing = [connection.closed for connection in self.connections]
        if closing:
            await asyncio.wait(closing, timeout=GRACE)
        for connection in tuple(self.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._number = next(server.numbers)
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._incoming: dict[int, _Incoming] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._proved = self._retiring = False
        self._transport: asyncio.Transport
        self.closed = asyncio.get_running_loop().create_future()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is not a subclass of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._certified = bool(transport.get_extra_info("peercert"))
        self._server.connections.add(self)
        self._h2.initiate_connection()
        self._allow(STREAMS if self._certified else 1)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                match event:
                    case RequestReceived(stream_id=int(stream)) if self._retiring:
                        # Not processed, so the client may send it again on another connection.
                        self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
                    case RequestReceived(stream_id=int(stream), headers=headers):
                        pairs = [(bytes(name), bytes(value)) for name, value in headers or ()]
                        self._incoming[stream] = _Incoming(pairs)
                    case DataReceived(stream_id=int(stream), data=bytes(part)):
                        self._collect(stream, part)
                        self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                    case StreamEnded(stream_id=int(stream)) if stream in self._incoming:
                        self._begin(stream)
                    case StreamReset(stream_id=int(stream)):
                        self._incoming.pop(stream, None)
                        if stream in self._tasks:
                            self._tasks[stream].cancel()
                        self._close_if_done()
                    case WindowUpdated() | RemoteSettingsChanged():
                        self._room.set()
        except ProtocolError:
            # h2 has queued the GOAWAY.
            self._flush()
            self._transport.close()
            return
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        for task in self._tasks.values():
            task.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    # Called by the server.

    def send_goaway(self) -> None:
        """Send GOAWAY and close. Requests in progress get no answer."""
        self._h2.close_connection(additional_data=GOAWAY_DATA)
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close without a GOAWAY."""
        self._transport.abort()

    # One request.

    def _collect(self, stream: int, part: bytes) -> None:
        if stream in self._incoming:
            body = self._incoming[stream].body
            body += part[: LARGEST - len(body)]

    def _begin(self, stream: int) -> None:
        call = _call(self._incoming.pop(stream), self._number, certified=self._certified)
        task = asyncio.get_running_loop().create_task(self._attend(stream, call))
        self._tasks[stream] = task
        task.add_done_callback(lambda _: self._end(stream))

    def _end(self, stream: int) -> None:
        del self._tasks[stream]
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retiring and not self._tasks and not self._incoming:
            self._transport.close()

    async def _attend(self, stream: int, call: Call) -> None:
        found = await self._server.attend(call)
        try:
            if isinstance(found, Ending):
                self._break_off(stream, found)
            else:
                await self._answer(stream, found)
                if found.last:
                    self._retire()
        except ProtocolError:
            pass  # the client has reset the stream, or the connection is closed
        self._flush()

    def _break_off(self, stream: int, ending: Ending) -> None:
        if ending is Ending.RESET:
            # Break off in the middle of an error answer, because a status of 2xx alone would be a success.
            self._h2.send_headers(stream, [(":status", "500")])
            self._flush()
        self.abort()

    async def _answer(self, stream: int, found: Answer) -> None:
        if not self._proved and not self._certified and succeeds(found.status):
            self._proved = True
            self._allow(STREAMS)
        headers = [(":status", str(found.status))]
        if found.body:
            headers.append(("content-type", found.content_type))
        headers += [(name.lower(), value) for name, value in found.headers.items()]
        self._h2.send_headers(stream, headers, end_stream=not found.body)
        await self._send(stream, found.body)

    async def _send(self, stream: int, body: bytes) -> None:
        while body:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room <= 0:
                self._flush()
                self._room.clear()
                await self._room.wait()
                continue
            self._h2.send_data(stream, body[:room], end_stream=len(body) <= room)
            body = body[room:]

    def _retire(self) -> None:
        """Send GOAWAY and accept no more requests; those in progress are answered before the connection
        closes.

        Written by hand, because h2 allows no further frames after its own GOAWAY.
        """
        if self._retiring:
            return
        self._retiring = True
        self._flush()
        last = self._h2.highest_inbound_stream_id
        self._transport.write(GoAwayFrame(last_stream_id=last, additional_data=GOAWAY_DATA).serialize())

    def _allow(self, streams: int) -> None:
        self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: streams})

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _call(incoming: _Incoming, connection: int, *, certified: bool) -> Call:
    """Bytes of a header that are not UTF-8 become surrogates, as in aiohttp. A name may occur more than
    once."""
    pseudo: dict[bytes, str] = {}
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in incoming.headers:
        if name.startswith(b":"):
            pseudo[name] = _text(value)
        else:
            headers.add(_text(name), _text(value))
    if b":authority" in pseudo:
        headers.setdefault("host", pseudo[b":authority"])
    path, _, query = pseudo.get(b":path", "").partition("?")
    return Call(
        pseudo[b":method"],
        unquote(path, errors="surrogateescape"),
        MultiDict(parse_qsl(query, keep_blank_values=True)),
        headers,
        bytes(incoming.body),
        connection=connection,
        certified=certified,
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
