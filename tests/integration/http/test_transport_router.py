"""The transport router: which protocol and which connections a request uses, as the server sees it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from relay.errors import TransportError
from relay.provider import Request, Response
from testing.raw_server import keeps_answering, read_request
from tests.integration.http.conftest import LOOPBACK, Pems, linking, routing, server_tls

BOTH = ["h2", "http/1.1"]


@pytest.mark.parametrize(
    ("wishes", "known", "agreed"),
    [
        ({}, BOTH, "http/1.1"),
        ({"prefers_http2": True}, BOTH, "h2"),
        ({"prefers_http2": True}, ["http/1.1"], "http/1.1"),
        ({"http2": True}, BOTH, "h2"),
        ({"http2": True}, ["http/1.1"], None),
    ],
)
async def test_the_protocol_over_tls(
    pems: Pems, wishes: dict[str, bool], known: list[str], agreed: str | None
) -> None:
    found: list[str | None] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())

    context = server_tls(pems)
    context.set_alpn_protocols(known)
    async with linking(routing, handler, tls=context, ca=pems[0].read_text(), **wishes) as link:
        with suppress(TransportError):
            await link.post()
    assert found[0] == agreed


async def test_http1_is_spoken_without_tls() -> None:
    seen: list[bytes] = []
    async with linking(routing, keeps_answering(seen), prefers_http2=True) as link:
        assert (await link.post("/a")).status == 200
    assert seen[0].startswith(b"POST /a HTTP/1.1\r\n")


async def test_a_guarded_request_shares_no_connection_with_others() -> None:
    async with linking(routing, keeps_answering([]), allowed=LOOPBACK) as link:
        for public_only in (False, True, False, True):
            request = Request(link.url, b"x", public_only=public_only)
            assert (await link.transport.send(request)).status == 200
        assert link.connections == 2


async def test_a_server_without_http2_is_reached_by_libcurl_from_then_on(pems: Pems) -> None:
    """Nothing is retried for it: not even a success with 200 headers."""
    head = b"".join(b"X-%d: y\r\n" % number for number in range(200))

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head * (link.connections > 1) + b"Content-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with linking(routing, handler, tls=pems, prefers_http2=True) as link:
        for _ in range(2):
            assert (await link.post()).status == 200
        assert link.connections == 2


@pytest.mark.parametrize("verb", ["send", "start"])
async def test_a_receiver_that_echoes_credentials_does_not_spread_them(verb: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n" % len(request) + request)

    async with linking(routing, echo) as link:
        request = Request(link.url, b"x", {"authorization": "Bearer very-secret-0123"})
        if verb == "send":
            result: Response | Exception = await link.transport.send(request)
        else:
            done: asyncio.Future[Response | Exception] = asyncio.get_running_loop().create_future()
            link.transport.start(request, lambda pending, result: done.set_result(result))
            result = await done
    assert isinstance(result, Response)
    assert b"authorization" in result.body.lower()
    assert b"very-secret-0123" not in result.body
