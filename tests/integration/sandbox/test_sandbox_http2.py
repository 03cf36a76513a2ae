"""The sandbox's HTTP/2 server, frame by frame."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame

from relay.sandbox.exchange import Answer, Call
from relay.sandbox.faults import Ending
from relay.sandbox.http2 import GOAWAY_DATA, Http2Server
from relay.sandbox.identity import Identity
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox


class Client:
    """One connection. `until` collects the events of the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.events: list[Event] = []
        self.goaways: list[GoAwayFrame] = []
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    def post(self, path: str = "/", body: bytes = b"") -> int:
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self.h2.send_headers(stream, headers, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    async def until(self, condition: Callable[[Event], bool]) -> Event:
        """Return the first event that meets the condition. Raises EOFError if the server closes before."""
        async with asyncio.timeout(120):
            while not (found := [event for event in self.events if condition(event)]):
                await self.read()
        return found[0]

    async def read(self) -> None:
        """One frame. A goaway is noted only: h2's client would not go on after it."""
        try:
            head = await self._reader.readexactly(9)
        except asyncio.IncompleteReadError:
            raise EOFError from None
        frame, length = Frame.parse_frame_header(memoryview(head))
        body = await self._reader.readexactly(length)
        if isinstance(frame, GoAwayFrame):
            frame.parse_body(memoryview(body))
            self.goaways.append(frame)
            return
        self.events += self.h2.receive_data(head + body)
        self.flush()

    async def goaway(self) -> GoAwayFrame:
        async with asyncio.timeout(120):
            while not self.goaways:
                await self.read()
        return self.goaways[0]

    async def closed(self) -> None:
        async with asyncio.timeout(120):
            with suppress(EOFError):
                while True:
                    await self.read()

    async def answer(self, stream: int) -> int:
        """The status, once the answer is whole."""
        await self.until(lambda event: isinstance(event, StreamEnded) and event.stream_id == stream)
        (status,) = [
            {str(name): value for name, value in event.headers or ()}[":status"]
            for event in self.events
            if isinstance(event, ResponseReceived) and event.stream_id == stream
        ]
        return int(status)

    def parts(self, stream: int) -> list[DataReceived]:
        return [
            event for event in self.events if isinstance(event, DataReceived) and event.stream_id == stream
        ]


@asynccontextmanager
async def serving(identity: Identity, attend: Any) -> AsyncIterator[Http2Server]:
    server = Http2Server(attend, 16)
    await server.start("127.0.0.1", 0, identity.context("127.0.0.1"))
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connected(identity: Identity, port: int, name: str = "127.0.0.1") -> AsyncIterator[Client]:
    context = ssl.create_default_context(cadata=identity.ca.decode())
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def allows(streams: int) -> Callable[[Event], bool]:
    code = SettingCodes.MAX_CONCURRENT_STREAMS
    return lambda event: (
        isinstance(event, RemoteSettingsChanged)
        and code in (event.changed_settings or {})
        and event.changed_settings[code].new_value == streams
    )


async def by_path(call: Call) -> Answer | Ending:
    return Answer(int(call.path.strip("/") or 200), b"", last=call.path == "/503")


async def test_a_connection_has_one_stream_until_a_request_succeeds_and_then_a_thousand(
    identity: Identity,
) -> None:
    async with serving(identity, by_path) as server, connected(identity, server.port) as client:
        await client.until(allows(1))
        assert await client.answer(client.post("/403")) == 403
        assert not any(map(allows(1000), client.events))
        assert await client.answer(client.post("/200")) == 200
        await client.until(allows(1000))


async def test_more_streams_than_are_allowed_end_the_connection(identity: Identity) -> None:
    async def never(call: Call) -> Answer:
        return await asyncio.Future[Answer]()

    async with serving(identity, never) as server, connected(identity, server.port) as client:
        await client.until(allows(1))
        # Behave as a client that has not read the setting.
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 100
        client.h2.remote_settings.acknowledge()
        client.post()
        client.post()
        assert (await client.goaway()).error_code == ErrorCodes.PROTOCOL_ERROR
        await client.closed()


async def test_a_shutdown_answers_requests_in_progress_and_accepts_no_more(identity: Identity) -> None:
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def attend(call: Call) -> Answer | Ending:
        if call.path == "/slow":
            under_way.set()
            await go_on.wait()
            return Answer(200)
        return await by_path(call)

    async with serving(identity, attend) as server, connected(identity, server.port) as client:
        await client.answer(client.post())
        await client.until(allows(1000))
        slow = client.post("/slow")
        await under_way.wait()
        last = client.post("/503")
        assert await client.answer(last) == 503
        goaway = await client.goaway()
        assert (goaway.error_code, goaway.additional_data) == (ErrorCodes.NO_ERROR, GOAWAY_DATA)
        assert goaway.last_stream_id == last
        go_on.set()
        assert await client.answer(slow) == 200
        await client.closed()
        for connection in tuple(server.connections):
            await connection.closed
        assert not server.connections


async def test_a_request_after_the_goaway_is_refused_unprocessed(identity: Identity) -> None:
    asked: list[str] = []
    go_on = asyncio.Event()

    async def attend(call: Call) -> Answer | Ending:
        asked.append(call.path)
        if call.path == "/slow":
            await go_on.wait()
        return Answer(200, last=call.path == "/last")

    async with serving(identity, attend) as server, connected(identity, server.port) as client:
        await client.answer(client.post())
        await client.until(allows(1000))
        client.post("/slow")
        await client.answer(client.post("/last"))
        await client.goaway()
        # Send a request as if it had crossed the goaway on its way.
        late = client.post("/late")
        reset = await client.until(lambda event: isinstance(event, StreamReset))
        assert (cast(StreamReset, reset).stream_id, cast(StreamReset, reset).error_code) == (
            late,
            ErrorCodes.REFUSED_STREAM,
        )
        go_on.set()
        await client.closed()
    assert asked == ["/", "/slow", "/last"]


async def test_a_large_answer_waits_for_room(identity: Identity) -> None:
    sizes: list[int] = []

    async def attend(call: Call) -> Answer:
        sizes.append(len(call.body))
        return Answer(200, b"x" * 300_000)

    async with serving(identity, attend) as server, connected(identity, server.port) as client:
        stream = client.post(body=b"y" * 16_000)
        taken = 0
        # 65,535 bytes fit; the rest comes as they are taken.
        while sum(len(event.data or b"") for event in client.parts(stream)) < 300_000:
            new = partial(lambda taken, event: event in client.parts(stream)[taken:], taken)
            await client.until(new)
            for event in client.parts(stream)[taken:]:
                client.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            taken = len(client.parts(stream))
            client.flush()
        assert b"".join(event.data or b"" for event in client.parts(stream)) == b"x" * 300_000
    assert sizes == [16_000]


async def test_a_stream_that_the_client_resets_is_dropped(identity: Identity) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def attend(call: Call) -> Answer:
        began.set()
        try:
            return await asyncio.Future[Answer]()
        finally:
            ended.set()

    async with serving(identity, attend) as server, connected(identity, server.port) as client:
        stream = client.post()
        await began.wait()
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        async with asyncio.timeout(120):
            await ended.wait()


async def test_a_stop_sends_goaway(identity: Identity) -> None:
    async with serving(identity, by_path) as server, connected(identity, server.port) as client:
        await client.answer(client.post())
        await server.stop()
        assert (await client.goaway()).additional_data == GOAWAY_DATA
        assert not server.connections


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "sandbox", "push.example.com"])
async def test_the_certificate_is_valid_for_any_name_that_a_client_uses(
    identity: Identity, name: str
) -> None:
    async with serving(identity, by_path) as server, connected(identity, server.port, name) as client:
        assert await client.answer(client.post()) == 200


async def test_a_client_without_http2_is_disconnected(identity: Identity) -> None:
    async with serving(identity, by_path) as server:
        context = ssl.create_default_context(cadata=identity.ca.decode())
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(120):
            await reader.read()
        writer.close()


def the_second_of_two_free_ports() -> socket.socket:
    """A socket that occupies a port whose predecessor is free."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, suppress(OSError):
            return socket.create_server(("127.0.0.1", first.getsockname()[1] + 1))


async def test_the_http2_port_is_the_next_one_if_that_is_free_and_otherwise_any() -> None:
    with the_second_of_two_free_ports() as taken:
        port = taken.getsockname()[1]
        sandbox = Sandbox(SandboxOptions(port=port - 1))
        async with sandbox:
            assert urlsplit(sandbox.apns_url).port not in (None, 0, port)
    async with sandbox:
        assert urlsplit(sandbox.apns_url).port == port


def test_a_goaway_has_apple_s_words() -> None:
    assert json.loads(GOAWAY_DATA) == {"reason": "Shutdown"}


async def test_a_requested_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        await Sandbox(SandboxOptions(apns_port=taken.getsockname()[1])).start()
