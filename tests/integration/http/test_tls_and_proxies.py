"""The contract of a transport: TLS and, for fixed hosts, client certificates and proxies."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from relay.errors import TransportError
from relay.http import Transport, Unsendable, open_transport
from relay.http.curl_http2 import CurlHttp2Transport
from relay.http.curl_transport import CurlTransport
from relay.http.transport import ProxyCredentialsRequired
from relay.provider import Request
from relay.settings.http import HttpOptions
from testing.http2_server import certificates
from testing.raw_server import hang, keeps_answering, linger_zero, serving
from tests.integration.http.conftest import Opener, server_tls

Fixed = Callable[..., AbstractAsyncContextManager[Transport]]


@pytest.fixture(params=[CurlTransport, CurlHttp2Transport])
def fixed(request: pytest.FixtureRequest) -> Fixed:
    """Opens a transport for fixed hosts, over either protocol."""

    @asynccontextmanager
    async def opening(timeout: float = 30, concurrency: int = 8, **more: Any) -> AsyncIterator[Transport]:
        transport = request.param(timeout=timeout, concurrency=concurrency, **more)
        try:
            yield transport
        finally:
            await transport.close()

    return opening


async def failure_of(transport: Transport, url: str) -> str:
    with pytest.raises(TransportError) as caught:
        await transport.send(Request(url, b"x"))
    assert not isinstance(caught.value, Unsendable)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 300
    return text


# TLS


@pytest.mark.parametrize("how", ["unknown authority", "expired", "another name"])
async def test_a_certificate_that_proves_nothing_is_refused(opened: Opener, tmp_path: Path, how: str) -> None:
    pems = certificates(tmp_path, days=-1 if how == "expired" else 1)
    ca = None if how == "unknown authority" else pems[0].read_text()
    host = "localhost" if how == "another name" else "127.0.0.1"
    seen: list[bytes] = []
    async with serving(keeps_answering(seen), server_tls(pems)) as port, opened(ca=ca) as transport:
        reason = await failure_of(transport, f"https://{host}:{port}/")
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
        assert (await failure_of(transport, f"https://127.0.0.1:{port}/")).startswith("TLS: ")


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
        assert (await failure_of(transport, f"https://127.0.0.1:{port}/")).startswith("TLS: ")


async def test_tls_on_a_port_for_plain_http(opened: Opener, pems: tuple[Path, Path, Path]) -> None:
    async with serving(keeps_answering([]), server_tls(pems)) as port, opened() as transport:
        assert f"127.0.0.1:{port}" in await failure_of(transport, f"http://127.0.0.1:{port}/")


async def test_silence_instead_of_a_handshake(opened: Opener) -> None:
    async with serving(hang) as port, opened(0.4) as transport:
        reason = await failure_of(transport, f"https://127.0.0.1:{port}/")
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
        assert f"127.0.0.1:{port}" in await failure_of(transport, f"https://127.0.0.1:{port}/")


def tls_options(pems: tuple[Path, Path, Path], **more: Any) -> HttpOptions:
    return HttpOptions(type="x", timeout=5, concurrency=2, ca=pems[0].read_text(), **more)


@pytest.mark.parametrize("public_only", [False, True])
async def test_an_authority_of_the_options_is_trusted_on_both_ways(
    pems: tuple[Path, Path, Path], public_only: bool
) -> None:
    transport = open_transport(tls_options(pems), allowed=[ip_network("127.0.0.0/8")])
    async with serving(keeps_answering([]), server_tls(pems)) as port:
        request = Request(f"https://127.0.0.1:{port}/", b"x", public_only=public_only)
        assert (await transport.send(request)).status == 200
        await transport.close()


async def test_a_client_certificate_is_shown_if_the_server_asks_for_it(
    fixed: Fixed, pems: tuple[Path, Path, Path]
) -> None:
    context = server_tls(pems)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pems[0])
    authority, certificate, key = (pem.read_text() for pem in pems)
    async with serving(keeps_answering([]), context) as port:
        url = f"https://127.0.0.1:{port}/"
        async with fixed(ca=authority, identity=(certificate, key)) as with_one:
            assert (await with_one.send(Request(url))).status == 200
        async with fixed(ca=authority) as without:
            with pytest.raises(TransportError, match=f"127.0.0.1:{port}"):
                await without.send(Request(url))


# Proxies


class Proxy:
    """A real one, of the smallest kind: CONNECT for https, absolute URLs for http."""

    def __init__(self, status: bytes = b"200 OK") -> None:
        self.heads: list[bytes] = []
        self.status = status

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target = head.split()[:2]
        if self.status != b"200 OK":
            writer.write(b"HTTP/1.1 " + self.status + b"\r\nContent-Length: 0\r\n\r\n")
            return
        if method != b"CONNECT":
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = target.decode().rpartition(":")
        there, onwards = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, onwards))
                group.create_task(_pump(there, writer))
        finally:
            onwards.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_a_proxy_is_used_with_its_credentials(fixed: Fixed, pems: tuple[Path, Path, Path]) -> None:
    proxy, seen = Proxy(), list[bytes]()
    async with serving(keeps_answering(seen), server_tls(pems)) as port, serving(proxy) as at:
        where = f"http://relay:s%40fe@127.0.0.1:{at}"
        async with fixed(ca=pems[0].read_text(), proxy=where) as transport:
            assert (await transport.send(Request(f"https://127.0.0.1:{port}/", b"x"))).status == 200
            assert (await transport.send(Request("http://far.example/a", b"x"))).status == 202
    basic = b"basic " + base64.b64encode(b"relay:s@fe").lower()
    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [
        b"CONNECT 127.0.0.1:%d HTTP/1.1" % port,
        b"POST http://far.example/a HTTP/1.1",
    ]
    for head in proxy.heads:
        assert basic in head.lower()
    assert b"proxy-authorization" not in seen[0].lower()


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"502 Bad Gateway"])
async def test_a_proxy_that_refuses(fixed: Fixed, status: bytes) -> None:
    async with (
        serving(Proxy(status)) as at,
        fixed(proxy=f"http://relay:word@127.0.0.1:{at}") as transport,
    ):
        with pytest.raises(TransportError, match=r"^the proxy did not connect to far\.example: ") as caught:
            await transport.send(Request("https://far.example/", b"x"))
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", [{}, {"http2": True}, {"prefers_http2": True}], ids=["http/1.1", "http/2", "either"]
)
async def test_a_proxy_that_requires_credentials_has_its_own_error(kind: dict[str, bool]) -> None:
    async with serving(Proxy(b"407 Proxy Authentication Required")) as at:
        transport = open_transport(HttpOptions(type="x", proxy=f"http://relay:word@127.0.0.1:{at}"), **kind)
        with pytest.raises(ProxyCredentialsRequired, match="did not connect to far") as caught:
            await transport.send(Request("https://far.example/", b"x"))
        await transport.close()
    assert "word" not in str(caught.value)


async def test_a_tunnel_is_no_success(fixed: Fixed) -> None:
    """The proxy says 200 to CONNECT, and then the handshake fails."""

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await reader.read(100)
        writer.write(b"no TLS\r\n\r\n")

    async with serving(proxy) as at, fixed(proxy=f"http://127.0.0.1:{at}") as transport:
        assert await failure_of(transport, "https://far.example/")


async def test_silence_behind_a_tunnel_is_no_success(fixed: Fixed, pems: tuple[Path, Path, Path]) -> None:
    ca = pems[0].read_text()
    async with (
        serving(hang, server_tls(pems)) as port,
        serving(Proxy()) as at,
        fixed(0.5, ca=ca, proxy=f"http://127.0.0.1:{at}") as transport,
    ):
        assert await failure_of(transport, f"https://127.0.0.1:{port}/") == "no answer within 0.5 s"


async def test_a_closed_proxy_port_is_a_transport_error(fixed: Fixed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with fixed(proxy=f"http://relay:word@127.0.0.1:{taken.getsockname()[1]}") as transport:
            with pytest.raises(TransportError, match=r"^cannot connect to .*: connection refused$") as caught:
                await transport.send(Request("http://far.example/", b"x"))
    assert "word" not in str(caught.value)


async def test_a_guarded_request_goes_through_no_proxy() -> None:
    transport = open_transport(HttpOptions(type="x", proxy="http://127.0.0.1:9"))
    with pytest.raises(Unsendable, match="neither `proxy` nor `client_cert`"):
        await transport.send(Request("http://192.0.2.1/", b"x", public_only=True))
    await transport.close()
