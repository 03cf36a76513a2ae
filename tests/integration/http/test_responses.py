"""The contract of a transport: responses, and those that count as a success."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from relay.errors import TransportError
from testing.raw_server import Handler, drips, keeps_answering, read_request, says, serving
from tests.integration.http.conftest import OK, Linked, Pems

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


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


async def test_a_header_that_is_not_ascii_does_not_cost_the_answer(linked: Linked) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-City: M\xfcnchen\r\nRETRY-After: 3\r\nContent-Length: 2\r\n\r\nok"
    async with linked(says(answer)) as link:
        response = await link.post()
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers.items() >= {"retry-after": "3", "content-length": "2"}.items()


async def test_cookies_are_not_kept(linked: Linked) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with linked(handler) as link:
        for _ in range(2):
            await link.post()
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


async def test_a_redirect_is_not_followed(linked: Linked) -> None:
    seen: list[bytes] = []
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
    async with serving(keeps_answering(seen)) as other, linked(says(answer % other)) as link:
        assert (await link.post()).status == 302
    assert seen == []


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
    ],
)
async def test_informational_answers_are_passed_over(linked: Linked, before: bytes) -> None:
    async with linked(first(before + OK, before + OK)) as link:
        for _ in range(3):
            response = await link.post()
            assert (response.status, response.body) == (200, b"{}")


async def test_an_unrequested_switch_of_protocols_is_no_success(linked: Linked) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nwhatever"
    async with linked(first(answer), timeout=0.2) as link:
        with suppress(TransportError):
            assert (await link.post()).status == 101
        with suppress(TransportError):
            assert (await link.post()).status in (101, 200)


# A status of 2xx counts even if the rest is broken: otherwise the receiver would get the message again


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["length and chunked", "chunked and length", "length twice"],
)
async def test_an_unusual_head_of_a_success_is_a_success(linked: Linked, head: bytes) -> None:
    async with linked(says(b"HTTP/1.1 200 OK\r\n" + head)) as link:
        response = await link.post()
    assert (response.status, response.body, response.incomplete) == (200, b"{}", None)


@pytest.mark.parametrize(
    ("rest", "missing"),
    [
        (b"Content-Length: 100\r\n\r\nshort", "ended its answer early (status 202)"),
        (CHUNKED + b"5\r\nab", "ended its answer early (status 202)"),
        (CHUNKED + b"zz\r\n", "did not answer in HTTP: "),
        (b"Content-Length: many\r\n\r\n", "did not answer in HTTP: "),
        (b"Content-Length: -5\r\n\r\nwhole", "did not answer in HTTP: "),
        (b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nwhole", "did not answer in HTTP: "),
        (b"X: " + b"y" * 1_000_000 + b"\r\n\r\n", "did not answer in HTTP: its headers are too long"),
        (b"Content-Le", "closed the connection before it answered"),
    ],
)
async def test_a_success_that_is_cut_short_is_a_success(linked: Linked, rest: bytes, missing: str) -> None:
    async with linked(says(b"HTTP/1.1 202 Accepted\r\nX-Id: 7\r\n" + rest)) as link:
        response = await link.post()
    assert response.status == 202
    assert response.incomplete is not None
    assert response.incomplete.removeprefix(link.url.removeprefix("http://") + " ").startswith(missing)
    if rest.endswith(b"short"):
        assert (response.headers["x-id"], response.body) == ("7", b"short")


@pytest.mark.parametrize("rest", [b"", b"X-A: b", b"Content-Length: 9\r\n\r\n", CHUNKED, CHUNKED + b"5;"])
async def test_a_success_that_never_ends_is_a_success_at_the_timeout(linked: Linked, rest: bytes) -> None:
    async with linked(drips(b"HTTP/1.1 200 OK\r\n" + rest, b""), timeout=1.0) as link:
        response = await link.post()
    assert response.status == 200
    assert response.incomplete is not None
    assert "1 s" in response.incomplete


async def test_a_success_without_the_end_of_tls_is_a_success(linked: Linked, pems: Pems) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        await writer.drain()
        writer.transport.abort()

    async with linked(handler, tls=pems) as link:
        response = await link.post()
    assert (response.status, response.body) == (200, b"short")
    assert response.incomplete is not None


# Anything else without an end is no response


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *((b"HTTP/1.1 " + status, "") for status in (b"204", b"2000", b"20", b"twenty")),
        (b"", "closed the connection before it answered"),
        (b"HTTP/1.1 500 No\r\nContent-Le", "closed the connection before it answered"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "closed the connection before it answered"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 100\r\n\r\nshort", "ended its answer early (status 404)"),
        (b"HTTP/1.1 503 Busy\r\n" + CHUNKED + b"zz\r\n", "did not answer in HTTP: "),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer in HTTP: "),
        (b"HTTP/1.1 404 No\r\nContent-Length: many\r\n\r\n", "did not answer in HTTP: "),
        (b"HTTP/1.1 404 No\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n", "did not answer in HTTP: "),
    ],
)
async def test_a_broken_answer_without_success_is_no_response(
    linked: Linked, answer: bytes, reason: str
) -> None:
    async with linked(says(answer)) as link:
        assert (await link.failure()).startswith(reason)


@pytest.mark.parametrize(
    ("beginning", "more", "reason"),
    [
        (b"", b"HTTP/1.1 200", "no answer within 0.3 s"),
        (b"HTTP/1.1 500 No\r\nX-A: ", b"0" * 12, "no answer within 0.3 s"),
        (
            b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n",
            b"x" * 999,
            "did not finish its answer within 0.3 s (status 500)",
        ),
    ],
    ids=["status line", "header", "body"],
)
async def test_an_answer_that_drips_ends_with_the_timeout(
    linked: Linked, beginning: bytes, more: bytes, reason: str
) -> None:
    async with asyncio.timeout(120), linked(drips(beginning, more), timeout=0.3) as link:
        assert await link.failure() == reason


# Wrong lengths


async def test_bytes_after_an_answer_are_not_mistaken_for_the_next_answer(linked: Linked) -> None:
    """A Content-Length that is too small; the rest may look like an answer."""
    forged = OK + b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    async with linked(first(forged)) as link:
        for _ in range(3):
            response = await link.post()
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
async def test_lengths_that_contradict_do_not_spoil_the_next_answer(linked: Linked, lengths: bytes) -> None:
    """Refused, or read in the only way that RFC 9112 (6.3) allows. The next response is read correctly."""
    contradicts = first(b"HTTP/1.1 200 OK\r\n" + lengths)
    async with linked(contradicts, keeps_answering([]), timeout=0.2) as link:
        response = await link.post()
        assert response.status == 200
        assert response.body == b"whole" or response.incomplete
        response = await link.post()
        assert (response.status, response.body) == (200, b"{}")


async def test_an_answer_before_the_end_of_a_long_request_counts(linked: Linked) -> None:
    """413 from a proxy in front: the answer counts, though the request was not read to its end."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        while await reader.read(65536):
            pass

    async with linked(handler) as link:
        response = await link.post(body=bytes(4 << 20))
    assert (response.status, response.body) == (413, b"no")
