"""The contract of a transport: servers that send too much, too slowly, or without a request."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest

from relay.errors import TransportError
from relay.http.transport import BODY_LIMIT
from relay.provider import Request
from testing.raw_server import Handler, hang, keeps_answering, read_request, says, serving, was_read
from tests.integration.http.conftest import MEBIBYTE, OK, Linked, Pems, resident

EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


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


def pours(beginning: bytes, more: bytes) -> Handler:
    """Answers a request with `beginning`, and then sends `more` as long as the client reads it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        while True:
            writer.write(more)
            await writer.drain()

    return handler


# Informational responses


async def test_an_endless_flood_of_informational_answers_is_cut_off_early(linked: Linked) -> None:
    flood = Flood(EARLY_HINTS * 600)
    async with asyncio.timeout(120), linked(flood) as link:
        assert (await link.failure()).startswith("did not answer in HTTP: ")
    assert flood.taken < 16 * MEBIBYTE  # the size of the buffers of both sockets


async def test_an_endless_flood_of_informational_answers_takes_no_memory_and_no_turn_of_others(
    linked: Linked,
) -> None:
    before = resident()
    async with linked(Flood(EARLY_HINTS * 600), timeout=1) as link, serving(keeps_answering([])) as good:
        flooded = asyncio.create_task(link.failure())
        for _ in range(10):
            request = Request(f"http://127.0.0.1:{good}/", b"x")
            assert (await link.transport.send(request)).status == 200
        await flooded
    assert resident() - before < 64 * MEBIBYTE


async def test_informational_answers_have_a_size_together(linked: Linked) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n" + b"Link: %s\r\n" % (b"x" * 4000) * 2 + b"\r\n"
    async with linked(says(early * 7 + OK), says(early * 15 + OK)) as link:
        assert (await link.post()).status == 200
        assert (await link.failure()).endswith("its headers are too long")


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
    linked: Linked, beginning: bytes, more: bytes
) -> None:
    async with asyncio.timeout(120), linked(pours(beginning, more), timeout=900) as link:
        assert await link.failure()


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
    linked: Linked, beginning: bytes, more: bytes
) -> None:
    before = resident()
    async with asyncio.timeout(120), linked(pours(beginning, more), timeout=900) as link:
        response = await link.post()
    assert response.status == 200
    assert response.incomplete is not None
    assert response.incomplete.endswith("its headers are too long")
    assert resident() - before < 32 * MEBIBYTE


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 500 No\r\nContent-Length: 1000000000000\r\n\r\n", b"HTTP/1.0 500 No\r\n\r\n"],
    ids=["announced", "until it closes"],
)
async def test_a_body_without_end_is_read_as_far_as_it_is_of_use(linked: Linked, head: bytes) -> None:
    async with asyncio.timeout(120), linked(pours(head, b"x" * 65536), timeout=900) as link:
        response = await link.post()
    assert (response.status, len(response.body)) == (500, BODY_LIMIT)


# Answers without a request


@pytest.mark.parametrize(
    ("unasked", "closes"),
    [
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 410 Go", False),
        (b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", True),
    ],
    ids=["forged", "half of one", "before it closes"],
)
async def test_an_answer_that_comes_while_the_connection_is_idle_is_discarded(
    linked: Linked, unasked: bytes, closes: bool
) -> None:
    """A forged 410 would end a subscription that exists; half of one would begin the next answer."""
    came = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await was_read(writer)
        writer.write(unasked)
        if closes:
            await writer.drain()
            writer.close()
        else:
            await was_read(writer)
        came.set()
        await keeps_answering([])(reader, writer)

    async with linked(handler) as link:
        for number in range(1, 4):
            response = await link.post()
            assert (response.status, response.body, link.connections) == (200, b"{}", number)
            async with asyncio.timeout(120):
                await came.wait()
            came.clear()


async def test_a_forged_answer_that_is_still_in_the_socket_is_discarded(linked: Linked) -> None:
    """The event loop has not read it yet when the next request is about to be sent."""
    writers: list[asyncio.StreamWriter] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await keeps_answering([])(reader, writer)

    async with linked(handler) as link:
        assert (await link.post()).status == 200
        # Written immediately, without a turn of the event loop in between.
        writers[0].write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        assert (await link.post()).status == 200
    assert len(writers) == 2


# TLS


async def test_a_certificate_chain_of_megabytes_is_refused(linked: Linked) -> None:
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
    async with asyncio.timeout(120), linked(handler, timeout=900) as link:
        link.url = link.url.replace("http", "https")
        assert link.url.removeprefix("https://") in await link.failure()
    assert resident() - before < 32 * MEBIBYTE


async def test_a_handshake_that_drips_ends_with_the_timeout(linked: Linked) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"\x16\x03\x03\x40\x00")
        while True:
            writer.write(b"\x00")
            await asyncio.sleep(0.02)

    async with asyncio.timeout(120), linked(handler, timeout=0.4) as link:
        link.url = link.url.replace("http", "https")
        assert re.search("no answer within|TLS: ", await link.failure())


async def test_an_idle_connection_over_tls_is_used_again(linked: Linked, pems: Pems) -> None:
    """Session tickets arrive after the handshake. They do not count as an answer without a request."""
    async with linked(keeps_answering([]), tls=pems) as link:
        for _ in range(5):
            assert (await link.post()).status == 200
        assert link.connections == 1


# Many at once


async def test_a_misbehaving_server_does_not_slow_another(linked: Linked) -> None:
    """They share a transport, and the limit of its connections is not reached."""
    async with linked(hang, timeout=900) as bad, serving(keeps_answering([])) as good:
        stuck = [asyncio.create_task(bad.post()) for _ in range(4)]
        await asyncio.sleep(0)
        assert (await bad.transport.send(Request(f"http://127.0.0.1:{good}/", b"x"))).status == 200
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_receiver_that_does_not_read_a_long_request_is_a_timeout(linked: Linked) -> None:
    async with linked(hang, timeout=0.5) as link:
        with pytest.raises(TransportError, match=r"^no answer within 0\.5 s$"):
            await link.post(body=bytes(32 << 20))
