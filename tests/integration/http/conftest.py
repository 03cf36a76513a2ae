"""Transports of each kind, and servers that send them exactly the bytes of a test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from relay.errors import TransportError
from relay.http import Transport, Unsendable, open_transport
from relay.http.curl_http2 import CurlHttp2Transport
from relay.http.curl_transport import CurlTransport
from relay.provider import Request, Response
from relay.settings.http import HttpOptions
from testing.http2_server import certificates
from testing.raw_server import Handler, serving

Opener = Callable[..., AbstractAsyncContextManager[Transport]]
Pems = tuple[Path, Path, Path]

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
MEBIBYTE = 1 << 20


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@asynccontextmanager
async def opening(
    kind: Callable[..., Transport], timeout: float = 30, concurrency: int = 8, **more: Any
) -> AsyncIterator[Transport]:
    """A transport, closed at the end."""
    transport = kind(timeout=timeout, concurrency=concurrency, **more)
    try:
        yield transport
    finally:
        await transport.close()


def routing(
    *, allowed: Any = (), http2: bool = False, prefers_http2: bool = False, **fields: Any
) -> AbstractAsyncContextManager[Transport]:
    """The transport of a provider with these options."""

    def kind(**more: Any) -> Transport:
        options = HttpOptions.model_validate({"type": "x", **more})
        return open_transport(options, allowed=allowed, http2=http2, prefers_http2=prefers_http2)

    return opening(kind, **fields)


@pytest.fixture(params=["fixed host", "guarded"])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Opens a transport over HTTP/1.1, for fixed hosts or with the guard (which permits loopback here)."""
    guarded = partial(CurlTransport, allowed=LOOPBACK)
    return partial(opening, guarded if request.param == "guarded" else CurlTransport)


@pytest.fixture(params=[CurlTransport, CurlHttp2Transport])
def fixed(request: pytest.FixtureRequest) -> Opener:
    """Opens a transport for fixed hosts, over either protocol."""
    return partial(opening, request.param)


async def failure_of(transport: Transport, url: str) -> str:
    """Why a request gets no response. Another attempt may succeed."""
    with pytest.raises(TransportError) as caught:
        await transport.send(Request(url, b"x"))
    assert not isinstance(caught.value, Unsendable)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 300
    return text


class Link:
    """A transport, and the server that its requests go to."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.transport: Transport

    @property
    def http2(self) -> bool:
        return isinstance(self.transport, CurlHttp2Transport)

    async def post(self, path: str = "/", body: bytes = b"x", headers: Any = None) -> Response:
        return await self.transport.send(Request(self.url + path, body, headers or {}))

    async def failure(self) -> str:
        """Why a request gets no response, without the address."""
        reason = await failure_of(self.transport, f"{self.url}/")
        return reason.removeprefix(f"{self.url.partition('//')[2]} ")


@asynccontextmanager
async def linking(
    opened: Opener, *handlers: Handler, tls: Pems | ssl.SSLContext | None = None, **more: Any
) -> AsyncIterator[Link]:
    """The first connection is served by the first handler, and so on; the last one stays."""
    link = Link()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.connections += 1
        await handlers[min(link.connections, len(handlers)) - 1](reader, writer)

    context = server_tls(tls) if isinstance(tls, tuple) else tls
    if isinstance(tls, tuple):
        more.setdefault("ca", tls[0].read_text())
    async with serving(serve, context) as port, opened(**more) as transport:
        link.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        link.transport = transport
        yield link


Linked = Callable[..., AbstractAsyncContextManager[Link]]


@pytest.fixture
def linked(opened: Opener) -> Linked:
    """Opens a transport over HTTP/1.1 of either kind, with a server for it."""
    return partial(linking, opened)


@pytest.fixture
def pems(tmp_path: Path) -> Pems:
    """An authority, and the certificate and the key of 127.0.0.1."""
    return certificates(tmp_path)


def server_tls(pems: Pems) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pems[1], pems[2])
    return context
