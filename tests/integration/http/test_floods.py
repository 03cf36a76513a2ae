"""Receivers that send far more than an answer, or at a time when nobody asked, over every transport."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http.aiohttp_transport import AiohttpTransport, tls_context
from relay.http.reqwest_transport import ReqwestTransport
from relay.provider import Request, Response
from testing.http2_peer import Peer, peering
from testing.raw_server import Handler, keeps_answering, read_request, says, serving
from tests.integration.http.conftest import Opener, server_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
MEBIBYTE = 1 << 20


class Flood:
    """Answers each request with `more`, again and again, and counts the bytes that the client took."""

    def __init__(self, more: bytes) -> None:
        self._more = more
        self.taken = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        while True:
            writer.write(self._more)
            await writer.drain()
            await asyncio.sleep(0)  # to drain a buffer that is not full gives no turn to others
            self.taken += len(self._more)


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def answer_of(opened: Opener, handler: Handler, timeout: float = 120) -> Response | str:
    """The answer to one request, or the reason why there is none."""
    async with serving(handler) as port, opened(timeout) as transport:
        try:
            return await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
        except TransportError as error:
            return str(error)


# Informational answers


@pytest.mark.parametrize("opened", ["aiohttp", "curl"], indirect=True)
async def test_an_endless_flood_of_informational_answers_is_cut_off_early(opened: Opener) -> None:
    flood = Flood(EARLY_HINTS * 600)
    async with asyncio.timeout(120):
        reason = await answer_of(opened, flood)
    assert isinstance(reason, str)
    assert "did not answer in HTTP: " in reason
    assert flood.taken < 16 * MEBIBYTE  # the size of the buffers of both sockets


async def test_an_endless_flood_of_informational_answers_takes_no_memory_and_no_turn_of_others(
    opened: Opener,
) -> None:
    before = resident()
    async with (
        serving(Flood(EARLY_HINTS * 600)) as bad,
        serving(keeps_answering([])) as good,
        opened(1) as transport,
    ):
        flooded = asyncio.create_task(transport.send(Request(f"http://127.0.0.1:{bad}/", b"x")))
        for _ in range(10):
            assert (await transport.send(Request(f"http://127.0.0.1:{good}/", b"x"))).status == 200
        with pytest.raises(TransportError):
            await flooded
    assert resident() - before < 64 * MEBIBYTE


@pytest.mark.parametrize("opened", ["aiohttp", "curl"], indirect=True)
async def test_sixteen_informational_answers_may_come_before_the_answer(opened: Opener) -> None:
    answer = await answer_of(opened, says(EARLY_HINTS * 16 + OK))
    assert isinstance(answer, Response)
    assert answer.status == 200
    reason = await answer_of(opened, says(EARLY_HINTS * 17 + OK))
    assert isinstance(reason, str)
    assert reason.endswith("did not answer in HTTP: it sent more than 16 informational answers (1xx)")


@pytest.mark.parametrize("opened", ["aiohttp", "curl"], indirect=True)
async def test_informational_answers_have_a_size_together(opened: Opener) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n" + b"Link: %s\r\n" % (b"x" * 4000) * 2 + b"\r\n"
    answer = await answer_of(opened, says(early * 7 + OK))
    assert isinstance(answer, Response)
    reason = await answer_of(opened, says(early * 15 + OK))
    assert isinstance(reason, str)
    assert reason.endswith("its headers are too long")


# Slow answers


@pytest.mark.parametrize(
    "beginning",
    [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1"],
    ids=["status line", "header", "chunk size"],
)
async def test_an_answer_that_drips_ends_with_the_timeout(opened: Opener, beginning: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        for byte in b"HTTP/1.1 200" if not beginning else b"0" * 12:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        await asyncio.Event().wait()

    async with asyncio.timeout(120):
        assert await answer_of(opened, drip, 0.3) == "no answer within 0.3 s"


# Answers that nobody asked for


async def test_an_answer_that_comes_while_the_connection_is_idle_is_discarded(opened: Opener) -> None:
    """A forged 410 would end a subscription that exists."""
    forged = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.02)  # the client reads its answer first
        writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        forged.set()
        await keeps_answering([])(reader, writer)

    async with serving(handler) as port, opened() as transport:
        for _ in range(3):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
            assert (response.status, response.body) == (200, b"{}")
            await forged.wait()
            forged.clear()


@pytest.mark.parametrize("opened", ["aiohttp", "curl"], indirect=True)
async def test_a_forged_answer_that_is_still_in_the_socket_is_discarded(opened: Opener) -> None:
    """The event loop has had no turn to read it when the next request is about to go out."""
    handlers: list[asyncio.StreamWriter] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(writer)
        await keeps_answering([])(reader, writer)

    async with serving(handler) as port, opened() as transport:
        request = Request(f"http://127.0.0.1:{port}/", b"x")
        assert (await transport.send(request)).status == 200
        # Written at once, without a turn of the event loop in between.
        handlers[0].write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        assert (await transport.send(request)).status == 200
    assert len(handlers) == 2


@pytest.mark.parametrize("opened", ["aiohttp", "curl"], indirect=True)
async def test_half_an_answer_on_an_idle_connection_does_not_begin_the_next_one(opened: Opener) -> None:
    """The rest of it would come after the next request, and be taken for its answer."""
    closed = asyncio.Event()
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(OK)
        if connections == 1:
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b"HTTP/1.1 410 Go")
            with suppress(ConnectionError):
                assert await reader.read() == b""
            closed.set()

    async with serving(handler) as port, opened() as transport:
        request = Request(f"http://127.0.0.1:{port}/", b"x")
        assert (await transport.send(request)).status == 200
        async with asyncio.timeout(120):
            await closed.wait()
        assert (await transport.send(request)).status == 200


# TLS


async def test_a_certificate_chain_of_megabytes_is_refused(
    opened: Opener, pems: tuple[Path, Path, Path]
) -> None:
    """The handshake ends long before the timeout; the chain is never kept."""
    record = b"\x16\x03\x03\x40\x00" + b"\x0b\x9f\xff\xff" + b"\x00" * (0x4000 - 4)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        with suppress(ConnectionError):
            for _ in range(640):
                writer.write(record)
                await writer.drain()
                await asyncio.sleep(0)
        await asyncio.Event().wait()

    before = resident()
    async with serving(handler) as port, opened(60) as transport:
        async with asyncio.timeout(120):
            with pytest.raises(TransportError, match=f"127.0.0.1:{port}"):
                await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))
    assert resident() - before < 32 * MEBIBYTE


async def test_a_handshake_that_drips_ends_with_the_timeout(opened: Opener) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"\x16\x03\x03\x40\x00")
        while True:
            writer.write(b"\x00")
            await asyncio.sleep(0.02)

    async with serving(handler) as port, opened(0.4) as transport:
        async with asyncio.timeout(120):
            with pytest.raises(TransportError, match=r"no answer within|TLS: "):
                await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))


async def test_idle_connections_over_tls_are_used_again(pems: tuple[Path, Path, Path]) -> None:
    """Session tickets arrive after the handshake, and are no answer that nobody asked for."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await keeps_answering([])(reader, writer)

    async with serving(handler, server_tls(pems)) as port:
        transport = AiohttpTransport(timeout=30, concurrency=1, context=tls_context(pems[0].read_text()))
        for _ in range(5):
            assert (await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))).status == 200
        await transport.close()
    assert connections == 1


# HTTP/2


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# Literal fields without indexing, so that no table of HPACK changes.
_STATUS_103 = b"\x08\x03103"
_FIELD = b"\x00\x03x-a" + b"\x7f\x81\x01" + b"y" * 256

_FLOODS: dict[str, Callable[[int], bytes]] = {
    "settings": lambda stream: frame(4, 0, 0, struct.pack(">HI", 4, 65535)) * 500,
    "ping": lambda stream: frame(6, 0, 0, bytes(8)) * 500,
    "rst_stream": lambda stream: frame(3, 0, stream + 2, struct.pack(">I", 8)) * 500,
    "window_update": lambda stream: frame(8, 0, stream, struct.pack(">I", 1)) * 500,
    "priority": lambda stream: frame(2, 0, stream, struct.pack(">IB", 0, 1)) * 500,
    "empty data": lambda stream: frame(0, 0, stream, b"") * 500,
    "unknown": lambda stream: frame(0xFA, 0, stream, bytes(100)) * 100,
    "informational": lambda stream: frame(1, 4, stream, _STATUS_103 + _FIELD) * 100,
    "trailers": lambda stream: frame(1, 4, stream, _FIELD) * 100,
    "continuation": lambda stream: frame(9, 0, stream, _FIELD * 50) * 10,
}
_BEGINNINGS: dict[str, Callable[[int], bytes]] = {
    "trailers": lambda stream: frame(1, 4, stream, b"\x88"),
    "empty data": lambda stream: frame(1, 4, stream, b"\x88"),
    "continuation": lambda stream: frame(1, 0, stream, b"\x88"),
}


@pytest.mark.parametrize("kind", _FLOODS)
async def test_a_flood_over_http2_ends_with_the_timeout_and_takes_no_memory(
    tmp_path: Path, kind: str
) -> None:
    async def flood(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        if kind in _BEGINNINGS:
            await peer.write(_BEGINNINGS[kind](asked.stream))
        reading = asyncio.create_task(discard(peer))
        try:
            while True:
                await peer.write(_FLOODS[kind](asked.stream))
                await asyncio.sleep(0)
        finally:
            reading.cancel()

    async def discard(peer: Peer) -> None:
        with suppress(ConnectionError):
            while True:
                await peer.skip()

    before = resident()
    async with peering(tmp_path, flood) as server:
        transport = ReqwestTransport(timeout=1, concurrency=1, ca=server.ca, http2=True)
        async with asyncio.timeout(120):
            with suppress(TransportError):  # some of it is no error by the standard
                await transport.send(Request(f"{server.url}/", b"x"))
        await transport.close()
    assert resident() - before < 64 * MEBIBYTE
