"""The contract of a transport: what comes back, and what counts as a success."""

from __future__ import annotations

import asyncio
import gzip
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http import Unsendable
from relay.http.transport import BODY_LIMIT
from relay.provider import Request, Response
from testing.raw_server import (
    Handler,
    keeps_answering,
    linger_zero,
    read_request,
    says,
    serving,
    was_read,
)
from tests.integration.http.conftest import Opener, server_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


async def response_to(opened: Opener, handler: Handler, timeout: float = 30) -> Response:
    async with serving(handler) as port, opened(timeout) as transport:
        return await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))


async def failure_of(opened: Opener, handler: Handler, timeout: float = 30) -> str:
    """Why there is no response, without the address. The next attempt may succeed."""
    async with serving(handler) as port, opened(timeout) as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
    assert not isinstance(caught.value, Unsendable)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 300
    return text.removeprefix(f"127.0.0.1:{port} ")


def first(*answers: bytes) -> Handler:
    """Answers the requests of each connection with these in turn, and then properly."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
        await keeps_answering([])(reader, writer)

    return handler


# Ordinary responses


async def test_names_of_headers_come_in_lower_case(opened: Opener) -> None:
    answer = b"HTTP/1.1 429 Slow\r\nRETRY-After: 3\r\nContent-Length: 0\r\n\r\n"
    async with serving(says(answer)) as port, opened() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
    assert (response.status, response.headers["retry-after"]) == (429, "3")


async def test_a_header_that_is_not_ascii_does_not_cost_the_answer(opened: Opener) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-City: M\xfcnchen\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nok"
    async with serving(says(answer)) as port, opened() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers.items() >= {"retry-after": "3", "content-length": "2"}.items()


async def test_cookies_are_not_kept(opened: Opener) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with serving(handler) as port, opened() as transport:
        for _ in range(2):
            await transport.send(Request(f"http://localhost:{port}/"))
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


async def test_a_redirect_is_not_followed(opened: Opener) -> None:
    seen: list[bytes] = []
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
    async with (
        serving(keeps_answering(seen)) as other,
        serving(says(answer % other)) as port,
        opened() as transport,
    ):
        response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
    assert (response.status, seen) == (302, [])


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
    ],
)
async def test_informational_answers_are_passed_over(opened: Opener, before: bytes) -> None:
    async with serving(first(before + OK, before + OK)) as port, opened() as transport:
        for _ in range(3):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
            assert (response.status, response.body) == (200, b"{}")


async def test_an_unrequested_switch_of_protocols_is_no_success(opened: Opener) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nwhatever"
    async with serving(first(answer)) as port, opened(0.2) as transport:
        with suppress(TransportError):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status == 101
        with suppress(TransportError):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status in (101, 200)


# A status of 2xx counts, whatever follows it: otherwise the receiver would get the message again


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"y" * 10_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        b"".join(b"X-%d: y\r\n" % number for number in range(200)) + b"Content-Length: 2\r\n\r\n{}",
        b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["long header", "200 headers", "length and chunked", "chunked and length", "length twice"],
)
async def test_an_unusual_head_of_a_success_is_a_success(opened: Opener, head: bytes) -> None:
    response = await response_to(opened, says(b"HTTP/1.1 200 OK\r\n" + head))
    assert (response.status, response.body, response.incomplete) == (200, b"{}", None)


@pytest.mark.parametrize(
    ("rest", "missing"),
    [
        (b"Content-Length: 100\r\n\r\nshort", "broke off its answer (status 202)"),
        (CHUNKED + b"5\r\nab", "broke off its answer (status 202)"),
        (CHUNKED + b"zz\r\n", "did not answer in HTTP: "),
        (b"Content-Length: many\r\n\r\n", "did not answer in HTTP: "),
        (b"Content-Length: -5\r\n\r\nwhole", "did not answer in HTTP: "),
        (b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nwhole", "did not answer in HTTP: "),
        (b"X: " + b"y" * 1_000_000 + b"\r\n\r\n", "did not answer in HTTP: its headers are too long"),
        (b"Content-Le", "closed the connection before it answered"),
    ],
)
async def test_a_success_that_is_cut_short_is_a_success(opened: Opener, rest: bytes, missing: str) -> None:
    async with serving(says(b"HTTP/1.1 202 Accepted\r\n" + rest)) as port, opened() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
    assert response.status == 202
    assert response.incomplete is not None
    assert response.incomplete.removeprefix(f"127.0.0.1:{port} ").startswith(missing)


async def test_a_cut_short_success_keeps_the_headers_and_the_body_that_came(opened: Opener) -> None:
    head = b"HTTP/1.1 201 Created\r\nX-Id: 7\r\nContent-Length: 100\r\n\r\n"
    response = await response_to(opened, says(head + b"short"))
    assert (response.status, response.headers["x-id"], response.body) == (201, "7", b"short")


@pytest.mark.parametrize("rest", [b"", b"X-A: b", b"Content-Length: 9\r\n\r\n", CHUNKED, CHUNKED + b"5;"])
async def test_a_success_that_never_ends_is_a_success_at_the_timeout(opened: Opener, rest: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + rest)
        await asyncio.Event().wait()

    response = await response_to(opened, handler, timeout=0.3)
    assert response.status == 200
    assert response.incomplete is not None
    assert "0.3 s" in response.incomplete


async def test_a_success_whose_connection_is_reset_is_a_success(opened: Opener) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        await was_read(writer)
        linger_zero(writer)

    response = await response_to(opened, handler)
    assert response.status == 200
    assert response.incomplete is not None
    assert response.incomplete.endswith("broke off its answer (status 200)")


async def test_a_success_without_the_end_of_tls_is_a_success(
    opened: Opener, pems: tuple[Path, Path, Path]
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        await writer.drain()
        writer.transport.abort()

    async with serving(handler, server_tls(pems)) as port, opened(ca=pems[0].read_text()) as transport:
        response = await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))
    assert (response.status, response.body) == (200, b"short")
    assert response.incomplete is not None


# Anything else without an end is no response


@pytest.mark.parametrize("status", [b"204", b"2000", b"20", b"twenty"])
async def test_half_a_status_line_is_no_success(opened: Opener, status: bytes) -> None:
    assert await failure_of(opened, says(b"HTTP/1.1 " + status))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection before it answered"),
        (b"HTTP/1.1 500 No\r\nContent-Le", "closed the connection before it answered"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "closed the connection before it answered"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nshort",
            "broke off its answer (status 404)",
        ),
        (b"HTTP/1.1 503 Busy\r\n" + CHUNKED + b"zz\r\n", "did not answer in HTTP: "),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer in HTTP: "),
        (b"HTTP/1.1 404 No\r\nContent-Length: many\r\n\r\n", "did not answer in HTTP: "),
        (b"HTTP/1.1 404 No\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n", "did not answer in HTTP: "),
    ],
)
async def test_a_broken_answer_without_success_is_no_response(
    opened: Opener, answer: bytes, reason: str
) -> None:
    assert (await failure_of(opened, says(answer))).startswith(reason)


async def test_a_body_without_end_names_its_status_at_the_timeout(opened: Opener) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    reason = await failure_of(opened, drip, timeout=0.3)
    assert reason == "did not finish its answer within 0.3 s (status 500)"


# Sizes and encodings


async def test_an_endless_body_is_cut_and_costs_its_connection(opened: Opener) -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
        finally:
            closed.set()

    async with serving(handler) as port, opened() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
        assert (response.status, len(response.body)) == (200, BODY_LIMIT)
        assert response.incomplete == "the body is longer than 64 KiB"
        async with asyncio.timeout(120):
            await closed.wait()


async def test_a_body_of_just_the_limit_is_whole_and_keeps_its_connection(opened: Opener) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_LIMIT + b"x" * BODY_LIMIT)

    async with serving(handler) as port, opened() as transport:
        for _ in range(2):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
            assert (len(response.body), response.incomplete) == (BODY_LIMIT, None)
    assert connections == 1


def packed(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 " + status + b"\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
async def test_a_gzip_body_is_unpacked(opened: Opener, status: bytes) -> None:
    response = await response_to(opened, says(packed(gzip.compress('{"error": "ж"}'.encode()), status)))
    assert (response.text, response.incomplete) == ('{"error": "ж"}', None)


async def test_a_gzip_bomb_is_cut_at_the_limit(opened: Opener) -> None:
    response = await response_to(opened, says(packed(gzip.compress(bytes(50 << 20)))))
    assert (response.status, response.body) == (200, bytes(BODY_LIMIT))
    assert response.incomplete == "the body is longer than 64 KiB"


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b"a body")[:-9],
        gzip.compress(b"a body")[:12] + b"\xff" * 20,
        b"\x1f\x8b" + struct.pack("20B", *range(20)),
    ],
    ids=["cut short", "garbage inside", "no header"],
)
async def test_a_damaged_gzip_body_is_incomplete(opened: Opener, body: bytes) -> None:
    response = await response_to(opened, says(packed(body)))
    assert (response.status, response.incomplete) == (200, "the gzip body is damaged")


async def test_a_body_that_only_claims_to_be_gzip_stays_as_it_is(opened: Opener) -> None:
    response = await response_to(opened, says(packed(b'{"plain": 1}')))
    assert (response.body, response.incomplete) == (b'{"plain": 1}', None)


async def test_a_byte_order_mark_is_removed(opened: Opener) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    response = await response_to(opened, says(head + b'\xef\xbb\xbf"ok"'))
    assert response.body == b'"ok"'


# Wrong lengths


async def test_bytes_after_an_answer_are_not_mistaken_for_the_next_answer(opened: Opener) -> None:
    """A Content-Length that is too small; the rest may look like an answer."""
    forged = OK + b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    async with serving(first(forged)) as port, opened() as transport:
        for _ in range(3):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
            assert (response.status, response.body) == (200, b"{}")


@pytest.mark.parametrize(
    "lengths",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nwhole",
        b"Content-Length: -5\r\n\r\nwhole",
        b"Content-Length: 0x5\r\n\r\nwhole",
        b"Content-Length: 99999999999999999999999\r\n\r\nwhole",
        b"Transfer-Encoding: chunked, identity\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nwhole",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nwhole\r\n0\r\n\r\n",
    ],
)
async def test_lengths_that_contradict_do_not_spoil_the_next_answer(opened: Opener, lengths: bytes) -> None:
    """Refused or read in the one way that RFC 9112 (6.3) allows; what comes next is right."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n" + lengths)
        await keeps_answering([])(reader, writer)

    async with serving(handler) as port, opened(0.2) as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
        assert response.status == 200
        assert response.body == b"whole" or response.incomplete
        response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
        assert (response.status, response.body) == (200, b"{}")


async def test_an_answer_before_the_end_of_a_long_request(opened: Opener) -> None:
    """413 from a proxy in front: the answer counts, though the request was not read to its end."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        while await reader.read(65536):
            pass

    async with serving(handler) as port, opened() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/", bytes(4 << 20)))
    assert (response.status, response.body) == (413, b"no")
