"""The contract of a transport over HTTP/1.1 and HTTP/2: valid answers, and the parts of them that are
kept."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from relay.http.curl_http2 import CurlHttp2Transport
from relay.http.curl_transport import CurlTransport
from relay.http.transport import BODY_LIMIT
from relay.provider import Request, Response
from testing.exchange import Behave, Exchange, Stage
from testing.http2_peer import Peer, peering
from tests.integration.http.conftest import LOOPBACK, MEBIBYTE, Link, linking, opening

Acts = Callable[..., AbstractAsyncContextManager[Link]]


async def well(exchange: Exchange) -> None:
    await exchange.answer()


@pytest.fixture(params=["fixed host", "guarded", "http/2"])
def acts(request: pytest.FixtureRequest, tmp_path: Path) -> Acts:
    """Opens a transport, and a server that behaves so with the first request, and answers well after it."""

    @asynccontextmanager
    async def over_http1(behave: Behave, timeout: float = 30) -> AsyncIterator[Link]:
        allowed = LOOPBACK if request.param == "guarded" else None
        opened = partial(opening, partial(CurlTransport, allowed=allowed))
        async with linking(opened, Stage(behave, well).http1, timeout=timeout) as link:
            yield link

    @asynccontextmanager
    async def over_http2(behave: Behave, timeout: float = 30) -> AsyncIterator[Link]:
        stage, link = Stage(behave, well), Link()

        async def serve(peer: Peer) -> None:
            link.connections += 1
            await stage.http2(peer)

        async with (
            peering(tmp_path, serve) as server,
            opening(CurlHttp2Transport, timeout, ca=server.ca, http2=True) as link.transport,
        ):
            link.url = server.url
            yield link

    return over_http2 if request.param == "http/2" else over_http1


async def answer_to(acts: Acts, behave: Behave) -> Response:
    async with acts(behave) as link:
        return await link.post()


# Whole answers


async def test_an_answer_comes_whole_with_names_of_headers_in_lower_case(acts: Acts) -> None:
    headers = (("retry-after", "3"), ("x-city", "a b"))
    response = await answer_to(acts, lambda exchange: exchange.answer(429, b"slow", headers))
    assert (response.status, response.body, response.incomplete) == (429, b"slow", None)
    assert response.headers.items() >= dict(headers).items()


async def test_a_success_with_long_and_many_headers_is_a_success(acts: Acts) -> None:
    headers = (("x-long", "y" * 10_000), *((f"x-{number}", "y") for number in range(200)))
    response = await answer_to(acts, lambda exchange: exchange.answer(headers=headers))
    assert (response.status, response.incomplete) == (200, None)
    assert response.headers.items() >= dict(headers).items()


@pytest.mark.parametrize("status", [200, 500])
async def test_headers_of_more_than_64_kib_are_too_long(acts: Acts, status: int) -> None:
    headers = tuple((f"x-{number}", "y" * 8000) for number in range(9))
    async with acts(lambda exchange: exchange.answer(status, headers=headers)) as link:
        reason = await link.failure() if status == 500 else (await link.post()).incomplete
        assert reason is not None
        assert reason.endswith("did not answer in HTTP: its headers are too long")


@pytest.mark.parametrize("number", [16, 17])
async def test_sixteen_informational_answers_may_come_before_the_answer(acts: Acts, number: int) -> None:
    async def behave(exchange: Exchange) -> None:
        for _ in range(number):
            await exchange.inform(103, (("link", "</a.css>; rel=preload"),))
        await exchange.answer()

    async with acts(behave) as link:
        if number == 16:
            assert (await link.post()).status == 200
        else:
            reason = "did not answer in HTTP: it sent more than 16 informational responses (1xx)"
            assert (await link.failure()).endswith(reason)


# Sizes and encodings


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("sent", "body", "incomplete"),
    [
        (gzip.compress('\ufeff{"error": "ж"}'.encode()), '{"error": "ж"}'.encode(), None),
        (gzip.compress(bytes(50 << 20)), bytes(BODY_LIMIT), "the body is longer than 64 KiB"),
        (b'{"plain": 1}', b'{"plain": 1}', None),
        (gzip.compress(b"a body")[:-9], None, "the gzip body is damaged"),
        (gzip.compress(b"a body")[:12] + b"\xff" * 20, None, "the gzip body is damaged"),
        (b"\x1f\x8b" + struct.pack("20B", *range(20)), None, "the gzip body is damaged"),
    ],
    ids=["whole", "bomb", "not gzip", "cut short", "garbage inside", "no header"],
)
async def test_a_gzip_body_is_unpacked(
    acts: Acts, status: int, sent: bytes, body: bytes | None, incomplete: str | None
) -> None:
    """A body that only claims to be gzip stays as it is."""
    headers = (("content-encoding", "gzip"), ("content-length", str(len(sent))))
    response = await answer_to(acts, lambda exchange: exchange.answer(status, sent, headers))
    assert (response.status, response.incomplete) == (status, incomplete)
    if body is not None:
        assert response.body == body


async def test_a_byte_order_mark_is_removed(acts: Acts) -> None:
    response = await answer_to(acts, lambda exchange: exchange.answer(body=b'\xef\xbb\xbf"ok"'))
    assert response.body == b'"ok"'


async def test_a_body_of_just_the_limit_is_whole_and_keeps_its_connection(acts: Acts) -> None:
    async with acts(lambda exchange: exchange.answer(body=b"x" * BODY_LIMIT)) as link:
        response = await link.post()
        assert (len(response.body), response.incomplete) == (BODY_LIMIT, None)
        assert (await link.post()).status == 200
        assert link.connections == 1


async def test_an_endless_body_is_cut(acts: Acts) -> None:
    """Over HTTP/1.1 it costs the connection."""
    sent, ended = 0, asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head(200)
        try:
            while True:
                await exchange.data(b"x" * 4096)
                sent += 4096
        finally:
            ended.set()

    async with acts(behave) as link:
        response = await link.post()
        assert (response.status, len(response.body)) == (200, BODY_LIMIT)
        assert response.incomplete == "the body is longer than 64 KiB"
        async with asyncio.timeout(120):
            await ended.wait()
        assert (await link.post()).body == b"{}"
        assert link.connections == (1 if link.http2 else 2)
    assert sent <= (8 * BODY_LIMIT if link.http2 else 16 * MEBIBYTE)  # the buffers of both sockets


# A status of 2xx counts even if the rest is broken: otherwise the receiver would get the message again


@pytest.mark.parametrize("how", ["reset", "abort", "close", "silence"])
@pytest.mark.parametrize("status", [202, 500])
async def test_an_answer_whose_body_never_ends_counts_if_it_is_a_success(
    acts: Acts, status: int, how: str
) -> None:
    async def behave(exchange: Exchange) -> None:
        await exchange.head(status, (("x-id", "7"),))
        await exchange.data(b"half")
        await exchange.was_read()
        match how:
            case "reset":
                await exchange.reset()
            case "abort":
                await exchange.abort()
            case "close":
                exchange.close()
        await exchange.gone()

    async with acts(behave, timeout=0.5 if how == "silence" else 30) as link:
        if status == 202:
            response = await link.post()
            assert (response.status, response.headers["x-id"], response.body) == (202, "7", b"half")
            reason = (response.incomplete or "").removeprefix(link.url.partition("//")[2] + " ")
        else:
            reason = await link.failure()
        assert reason
        assert reason.isprintable()
        if how == "silence":
            assert "within 0.5 s" in reason
        elif not link.http2:
            assert reason == f"ended its answer early (status {status})"


# Connections that end or hang


@pytest.mark.parametrize("end", ["closed", "reset", "silent"])
async def test_a_fresh_connection_without_an_answer_is_an_attempt_and_is_not_used_again(
    acts: Acts, end: str
) -> None:
    async def behave(exchange: Exchange) -> None:
        if end == "closed":
            exchange.close()
        if end == "reset":
            await exchange.abort()
        await asyncio.Event().wait()

    async with acts(behave, timeout=1 if end == "silent" else 30) as link:
        reason = "no answer within 1 s" if end == "silent" else "closed the connection before it answered"
        assert await link.failure() == reason
        assert link.connections == 1
        assert (await link.post()).status == 200
        assert link.connections == 2


async def test_a_cancelled_task_cancels_its_request(acts: Acts) -> None:
    """Over HTTP/2 its connection stays open."""
    came, gone = asyncio.Event(), asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        came.set()
        await exchange.gone()
        gone.set()

    async with acts(behave) as link:
        task = asyncio.create_task(link.transport.send(Request(link.url, b"x")))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(120):
            await gone.wait()
        assert (await link.post()).status == 200
        assert link.connections == (1 if link.http2 else 2)
