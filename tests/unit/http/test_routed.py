"""Which requests share connections: told by the port that they come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from relay.http import Transport
from relay.http.routed import RoutedTransport
from relay.provider import Request
from relay.settings.http import HttpOptions


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """The URL of a server that answers with the port that it was asked from."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = str(writer.get_extra_info("peername")[1]).encode()
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(port), port))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@asynccontextmanager
async def routed(**options: object) -> AsyncIterator[Transport]:
    parsed = HttpOptions.model_validate({"type": "webhook", **options})
    transport = RoutedTransport(parsed, (), http2=False)
    try:
        yield transport
    finally:
        await transport.close()


async def port_of(transport: Transport, url: str, headers: Mapping[str, str] | None = None) -> bytes:
    return (await transport.send(Request(url, headers=headers or {}, method="GET"))).body


async def test_over_plain_http_providers_share_connections(echo: str) -> None:
    async with routed() as one, routed() as other:
        assert await port_of(one, echo) == await port_of(other, echo)


async def test_those_with_another_time_out_do_not(echo: str) -> None:
    async with routed(timeout=5) as one, routed(timeout=6) as other:
        assert await port_of(one, echo) != await port_of(other, echo)


async def test_what_is_shared_lives_as_long_as_anyone_uses_it(echo: str) -> None:
    async with routed() as other:
        async with routed() as one:
            port = await port_of(one, echo)
            assert await port_of(other, echo) == port
        assert await port_of(other, echo) == port
    async with routed() as later:
        assert await port_of(later, echo) != port


async def test_a_provider_with_a_proxy_shares_nothing(echo: str) -> None:
    async with routed() as one, routed(proxy=echo) as other:
        assert await port_of(one, echo) != await port_of(other, echo)
