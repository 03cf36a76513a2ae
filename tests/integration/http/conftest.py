"""What the tests of the transports share: one of each kind, and certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from relay.http import Transport
from relay.http.aiohttp_transport import AiohttpTransport, tls_context
from relay.http.curl_transport import CurlTransport
from relay.http.reqwest_transport import ReqwestTransport
from testing.http2_server import certificates

Opener = Callable[..., AbstractAsyncContextManager[Transport]]


@pytest.fixture(params=["aiohttp", "curl", "reqwest"])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Opens a transport of each kind, with a time limit in seconds and an authority in PEM."""

    @asynccontextmanager
    async def opening(timeout: float = 30, ca: str | None = None) -> AsyncIterator[Transport]:
        transport: Transport
        if request.param == "aiohttp":
            transport = AiohttpTransport(timeout=timeout, concurrency=8, context=tls_context(ca))
        elif request.param == "curl":
            transport = CurlTransport(timeout=timeout, concurrency=8, ca=ca)
        else:
            transport = ReqwestTransport(timeout=timeout, concurrency=8, ca=ca)
        try:
            yield transport
        finally:
            await transport.close()

    return opening


@pytest.fixture
def pems(tmp_path: Path) -> tuple[Path, Path, Path]:
    """An authority, and the certificate and the key of 127.0.0.1."""
    return certificates(tmp_path)


def server_tls(pems: tuple[Path, Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pems[1], pems[2])
    return context
