"""Fixtures of the transport tests: a transport of each client, and certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from relay.http import Transport
from relay.http.curl_transport import CurlTransport
from testing.http2_server import certificates

Opener = Callable[..., AbstractAsyncContextManager[Transport]]

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.fixture(params=["fixed host", "guarded"])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Opens a transport over HTTP/1.1, for fixed hosts or with the guard (which permits loopback here)."""

    @asynccontextmanager
    async def opening(timeout: float = 30, concurrency: int = 8, **more: Any) -> AsyncIterator[Transport]:
        if request.param == "guarded":
            more.setdefault("allowed", LOOPBACK)
        transport = CurlTransport(timeout=timeout, concurrency=concurrency, **more)
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
