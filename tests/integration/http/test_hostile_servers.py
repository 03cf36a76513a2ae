"""The contract of a transport: servers that send too much, too slowly, or when nobody asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http.transport import BODY_LIMIT
from relay.provider import Request, Response
from testing.raw_server import (
    Handler,
    hang,
    keeps_answering,
    read_request,
    says,
    serving,
    was_read,
)
from tests.integration.http.conftest import Opener, server_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
MEBIBYTE = 1 << 20


class Flood:
    """Answers each request with `more` forever, and counts the bytes that the client read."""

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


def pours(beginning: bytes, more: bytes) -> Handler:
    """Answers a request with `beginning`, and then `more` for as long as anybody reads it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        while True:
            writer.write(more)
            await writer.drain()

    return handler


# Informational responses


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


async def test_sixteen_informational_answers_may_come_before_the_answer(opened: Opener) -> None:
    answer = await answer_of(opened, says(EARLY_HINTS * 16 + OK))
    assert isinstance(answer, Response)
    assert answer.status == 200
    reason = await answer_of(opened, says(EARLY_HINTS * 17 + OK))
    assert isinstance(reason, str)
    assert reason.endswith("did not answer in HTTP: it sent more than 16 informational responses (1xx)")


async def test_informational_answers_have_a_size_together(opened: Opener) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n" + b"Link: %s\r\n" % (b"x" * 4000) * 2 + b"\r\n"
    answer = await answer_of(opened, says(early * 7 + OK))
    assert isinstance(answer, Response)
    reason = await answer_of(opened, says(early * 15 + OK))
    assert isinstance(reason, str)
    assert reason.endswith("its headers are too long")


# Slow answers


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 500 No\r\nX-A: "], ids=["status line", "header"])
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


# Floods


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"HTTP/1.1 500 No\r\n", b"X-A: b\r\n" * 500),
        (b"HTTP/1.1 500 No\r\nX-A: ", b"y" * 4096),
        (b"", b"y" * 4096),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 500),
    ],
    ids=["headers", "a header", "garbage", "trailers"],
)
async def test_a_flood_is_cut_off_long_before_the_timeout(
    opened: Opener, beginning: bytes, more: bytes
) -> None:
    async with asyncio.timeout(120):
        assert isinstance(await answer_of(opened, pours(beginning, more)), str)


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 500),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"y" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 500),
    ],
    ids=["headers", "a header", "trailers"],
)
async def test_a_flood_after_a_success_is_cut_off_and_is_a_success(
    opened: Opener, beginning: bytes, more: bytes
) -> None:
    before = resident()
    async with asyncio.timeout(120):
        response = await answer_of(opened, pours(beginning, more))
    assert isinstance(response, Response)
    assert response.status == 200
    assert response.incomplete is not None
    assert response.incomplete.endswith("its headers are too long")
    assert resident() - before < 32 * MEBIBYTE


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 500 No\r\nContent-Length: 1000000000000\r\n\r\n", b"HTTP/1.0 500 No\r\n\r\n"],
    ids=["announced", "until it closes"],
)
async def test_a_body_without_end_is_read_as_far_as_it_is_of_use(opened: Opener, head: bytes) -> None:
    async with serving(pours(head, b"x" * 65536)) as port, opened(120) as transport:
        async with asyncio.timeout(120):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
    assert (response.status, len(response.body)) == (500, BODY_LIMIT)


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


async def test_an_unrequested_answer_is_not_mistaken_for_the_next_one(opened: Opener) -> None:
    """Servers say 408 to an idle connection before they close it."""
    late = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await was_read(writer)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        late.set()

    async with serving(handler) as port, opened() as transport:
        for _ in range(3):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
            assert (response.status, response.body) == (200, b"{}")
            await late.wait()
            late.clear()


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


async def test_an_idle_connection_over_tls_is_used_again(
    opened: Opener, pems: tuple[Path, Path, Path]
) -> None:
    """Session tickets arrive after the handshake, and are no answer that nobody asked for."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await keeps_answering([])(reader, writer)

    async with serving(handler, server_tls(pems)) as port, opened(ca=pems[0].read_text()) as transport:
        for _ in range(5):
            assert (await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))).status == 200
    assert connections == 1


# Many at once


async def test_a_misbehaving_server_does_not_slow_another(opened: Opener) -> None:
    """They share a transport, and the limit of its connections is not reached."""
    async with serving(hang) as bad, serving(keeps_answering([])) as good, opened(20) as transport:
        stuck = [
            asyncio.create_task(transport.send(Request(f"http://127.0.0.1:{bad}/", b"x"))) for _ in range(4)
        ]
        await asyncio.sleep(0)
        assert (await transport.send(Request(f"http://127.0.0.1:{good}/", b"x"))).status == 200
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_receiver_that_does_not_read_a_long_request(opened: Opener) -> None:
    async with serving(hang) as port, opened(0.5) as transport:
        with pytest.raises(TransportError, match=r"^no answer within 0\.5 s$"):
            await transport.send(Request(f"http://127.0.0.1:{port}/", bytes(32 << 20)))
