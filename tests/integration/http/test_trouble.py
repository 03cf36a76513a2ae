"""What a provider can do to us over HTTP/1.1 and TLS, the same for both transports."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http import Transport, Unsendable
from relay.http.transport import BODY_LIMIT
from relay.provider import Request
from testing.http2_server import certificates
from testing.raw_server import (
    Handler,
    hang,
    keeps_answering,
    linger_zero,
    read_request,
    serving,
    silent_address,
    was_read,
)
from tests.integration.http.conftest import Opener, server_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\n"


async def refused(transport: Transport, url: str, body: bytes = b"x") -> str:
    """Why no answer came. It may come at the next attempt, and the reason is one line."""
    with pytest.raises(TransportError) as caught:
        await transport.send(Request(url, body))
    assert not isinstance(caught.value, Unsendable)
    text = str(caught.value)
    assert len(text) < 300
    assert text.isprintable()
    return text


def first(*answers: bytes) -> Handler:
    """Each connection's requests are answered by these in turn, and then properly."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
        await keeps_answering([])(reader, writer)

    return handler


def pours(beginning: bytes, more: bytes) -> Handler:
    """Answers a request with `beginning`, and then `more` for as long as anybody reads it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        while True:
            writer.write(more)
            await writer.drain()

    return handler


# Connections that nobody takes


async def test_an_address_that_says_nothing(opened: Opener) -> None:
    with silent_address() as (host, port):
        async with opened(0.2) as transport:
            reason = await refused(transport, f"http://{host}:{port}/")
    assert reason in (
        "no answer within 0.2 s",
        f"cannot connect to {host}:{port}: no answer within 0.1 s",
    )


# Answers before the answer


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


async def test_informational_answers_without_end_end_with_the_time_limit(opened: Opener) -> None:
    async with serving(pours(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50)) as port, opened(0.2) as transport:
        started = time.monotonic()
        assert await refused(transport, f"http://127.0.0.1:{port}/")
        assert time.monotonic() - started < 120


async def test_a_switch_of_protocols_that_nobody_asked_for_is_no_success(opened: Opener) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nwhatever"
    async with serving(first(answer)) as port, opened(0.2) as transport:
        with suppress(TransportError):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status == 101
        with suppress(TransportError):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status in (101, 200)


# Lengths that are wrong


async def test_what_comes_after_an_answer_is_not_taken_for_the_next_one(opened: Opener) -> None:
    """A Content-Length that is too small; the rest may look like an answer."""
    forged = OK + b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    async with serving(first(forged)) as port, opened() as transport:
        for _ in range(3):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
            assert (response.status, response.body) == (200, b"{}")


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(opened: Opener) -> None:
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
            writer.write(HEAD + lengths)
        await keeps_answering([])(reader, writer)

    async with serving(handler) as port, opened(0.2) as transport:
        with suppress(TransportError):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).body == b"whole"
        response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
        assert (response.status, response.body) == (200, b"{}")


# Floods


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (HEAD, b"X-A: b\r\n" * 500),
        (HEAD + b"X-A: ", b"y" * 4096),
        (b"", b"y" * 4096),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 500),
    ],
    ids=["headers", "a header", "garbage", "trailers"],
)
async def test_a_flood_is_cut_off_long_before_the_time_limit(
    opened: Opener, beginning: bytes, more: bytes
) -> None:
    async with serving(pours(beginning, more)) as port, opened(120) as transport:
        async with asyncio.timeout(120):
            assert await refused(transport, f"http://127.0.0.1:{port}/")


async def test_the_extension_of_a_chunk_without_end_ends_with_the_time_limit(opened: Opener) -> None:
    """It is thrown away as it comes, so it costs no memory."""
    flood = pours(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;", b"y" * 4096)
    async with serving(flood) as port, opened(0.2) as transport:
        async with asyncio.timeout(120):
            assert await refused(transport, f"http://127.0.0.1:{port}/")


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


# Connections that end


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_a_reused_connection_that_ends_before_its_answer_costs_no_attempt(
    opened: Opener, end: str
) -> None:
    """The other side closed it while the request was on its way: the request goes out once more."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        for _ in range(3):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status == 200
    assert connections == 3


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_a_fresh_connection_that_ends_before_its_answer_is_an_attempt(opened: Opener, end: str) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        reason = await refused(transport, f"http://127.0.0.1:{port}/")
    assert reason == f"127.0.0.1:{port} closed the connection before it answered"
    assert connections == 1


async def test_a_reset_in_the_middle_of_a_body(opened: Opener) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"Content-Length: 100\r\n\r\nshort")
        await was_read(writer)
        linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        reason = await refused(transport, f"http://127.0.0.1:{port}/")
    assert reason == f"127.0.0.1:{port} broke off its answer"


async def test_a_receiver_that_does_not_read_a_long_request(opened: Opener) -> None:
    async with serving(hang) as port, opened(0.5) as transport:
        assert (
            await refused(transport, f"http://127.0.0.1:{port}/", bytes(32 << 20)) == "no answer within 0.5 s"
        )


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


# TLS


@pytest.mark.parametrize("how", ["unknown authority", "expired", "another name"])
async def test_a_certificate_that_proves_nothing_is_refused(opened: Opener, tmp_path: Path, how: str) -> None:
    pems = certificates(tmp_path, days=-1 if how == "expired" else 1)
    ca = None if how == "unknown authority" else pems[0].read_text()
    host = "localhost" if how == "another name" else "127.0.0.1"
    seen: list[bytes] = []
    async with serving(keeps_answering(seen), server_tls(pems)) as port, opened(ca=ca) as transport:
        reason = await refused(transport, f"https://{host}:{port}/")
    assert reason.startswith(f"TLS: the certificate of {host}:{port} is refused: ")
    assert not seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_tls_before_1_2_is_not_spoken(
    opened: Opener, pems: tuple[Path, Path, Path], version: ssl.TLSVersion
) -> None:
    context = server_tls(pems)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with serving(keeps_answering([]), context) as port, opened(ca=pems[0].read_text()) as transport:
        assert (await refused(transport, f"https://127.0.0.1:{port}/")).startswith("TLS: ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(
    opened: Opener, pems: tuple[Path, Path, Path], version: ssl.TLSVersion
) -> None:
    context = server_tls(pems)
    context.minimum_version = context.maximum_version = version
    async with serving(keeps_answering([]), context) as port, opened(ca=pems[0].read_text()) as transport:
        assert (await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))).status == 200


async def test_plain_http_on_a_port_for_tls(opened: Opener) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(handler) as port, opened() as transport:
        assert (await refused(transport, f"https://127.0.0.1:{port}/")).startswith("TLS: ")


async def test_tls_on_a_port_for_plain_http(opened: Opener, pems: tuple[Path, Path, Path]) -> None:
    async with serving(keeps_answering([]), server_tls(pems)) as port, opened() as transport:
        assert f"127.0.0.1:{port}" in await refused(transport, f"http://127.0.0.1:{port}/")


async def test_silence_instead_of_a_handshake(opened: Opener) -> None:
    async with serving(hang) as port, opened(0.4) as transport:
        reason = await refused(transport, f"https://127.0.0.1:{port}/")
    assert reason in (
        "no answer within 0.4 s",
        f"cannot connect to 127.0.0.1:{port}: no answer within 0.2 s",
    )


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_a_handshake_that_is_broken_off(opened: Opener, end: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        assert f"127.0.0.1:{port}" in await refused(transport, f"https://127.0.0.1:{port}/")


async def test_a_body_that_ends_without_the_end_of_tls_is_broken_off(
    opened: Opener, pems: tuple[Path, Path, Path]
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"Content-Length: 100\r\n\r\nshort")
        await writer.drain()
        writer.transport.abort()

    ca = pems[0].read_text()
    async with serving(handler, server_tls(pems)) as port, opened(ca=ca) as transport:
        reason = await refused(transport, f"https://127.0.0.1:{port}/")
    assert reason in (
        f"127.0.0.1:{port} broke off its answer",
        f"127.0.0.1:{port} broke off the connection",
        f"127.0.0.1:{port} closed the connection before it answered",
    )


# Many at once


async def test_one_that_misbehaves_does_not_slow_another(opened: Opener) -> None:
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
