"""The transport router: which protocol and which connections a request uses, as the server sees it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http import open_transport
from relay.provider import Request, Response
from relay.settings.http import HttpOptions
from testing.raw_server import keeps_answering, read_request, serving
from tests.integration.http.conftest import server_tls

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
    pems: tuple[Path, Path, Path], wishes: dict[str, bool], known: list[str], agreed: str | None
) -> None:
    found: list[str | None] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())

    context = server_tls(pems)
    context.set_alpn_protocols(known)
    transport = open_transport(HttpOptions(type="x", ca=pems[0].read_text()), **wishes)
    async with serving(handler, context) as port:
        with suppress(TransportError):
            await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))
        await transport.close()
    assert found[0] == agreed


async def test_http1_is_spoken_without_tls() -> None:
    seen: list[bytes] = []
    transport = open_transport(HttpOptions(type="x"), prefers_http2=True)
    async with serving(keeps_answering(seen)) as port:
        assert (await transport.send(Request(f"http://127.0.0.1:{port}/a", b"x"))).status == 200
        await transport.close()
    assert seen[0].startswith(b"POST /a HTTP/1.1\r\n")


async def test_a_guarded_request_shares_no_connection_with_others() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await keeps_answering([])(reader, writer)

    transport = open_transport(HttpOptions(type="x"), allowed=[ip_network("127.0.0.0/8")])
    async with serving(handler) as port:
        for public_only in (False, True, False, True):
            request = Request(f"http://127.0.0.1:{port}/", b"x", public_only=public_only)
            assert (await transport.send(request)).status == 200
        await transport.close()
    assert connections == 2


async def test_a_server_without_http2_is_reached_by_libcurl_from_then_on(
    pems: tuple[Path, Path, Path],
) -> None:
    """Nothing is retried for it: not even a success with 200 headers."""
    connections = 0
    head = b"".join(b"X-%d: y\r\n" % number for number in range(200))

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head * (connections > 1) + b"Content-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    transport = open_transport(HttpOptions(type="x", ca=pems[0].read_text()), prefers_http2=True)
    async with serving(handler, server_tls(pems)) as port:
        for _ in range(2):
            assert (await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))).status == 200
        await transport.close()
    assert connections == 2


@pytest.mark.parametrize("verb", ["send", "start"])
async def test_a_receiver_that_echoes_credentials_does_not_spread_them(verb: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n" % len(request) + request)

    options = HttpOptions.model_validate({"type": "x"})
    async with serving(echo) as port:
        transport = open_transport(options)
        request = Request(f"http://127.0.0.1:{port}/", b"x", {"authorization": "Bearer very-secret-0123"})
        if verb == "send":
            result: Response | Exception = await transport.send(request)
        else:
            done: asyncio.Future[Response | Exception] = asyncio.get_running_loop().create_future()
            transport.start(request, lambda pending, result: done.set_result(result))
            result = await done
        await transport.close()
    assert isinstance(result, Response)
    assert b"authorization" in result.body.lower()
    assert b"very-secret-0123" not in result.body
