"""The contract of a transport: TLS and, for fixed hosts, client certificates and proxies."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http import Unsendable
from relay.http.transport import ProxyCredentialsRequired
from relay.provider import Request
from testing.http2_server import certificates
from testing.raw_server import closed_port, hang, keeps_answering, linger_zero, serving
from tests.integration.http.conftest import (
    LOOPBACK,
    Linked,
    Opener,
    Pems,
    failure_of,
    linking,
    routing,
    server_tls,
)

# TLS


@pytest.mark.parametrize("how", ["unknown authority", "expired", "another name"])
async def test_a_certificate_that_proves_nothing_is_refused(linked: Linked, tmp_path: Path, how: str) -> None:
    pems = certificates(tmp_path, days=-1 if how == "expired" else 1)
    ca = None if how == "unknown authority" else pems[0].read_text()
    host = "localhost" if how == "another name" else "127.0.0.1"
    seen: list[bytes] = []
    async with linked(keeps_answering(seen), tls=pems, ca=ca) as link:
        link.url = link.url.replace("127.0.0.1", host)
        server = link.url.removeprefix("https://")
        assert (await link.failure()).startswith(f"TLS: the certificate of {server} is refused: ")
    assert not seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
async def test_tls_is_spoken_from_version_1_2(linked: Linked, pems: Pems, version: str) -> None:
    context = server_tls(pems)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    async with linked(keeps_answering([]), tls=context, ca=pems[0].read_text()) as link:
        if version in ("TLSv1", "TLSv1_1"):
            assert (await link.failure()).startswith("TLS: ")
        else:
            assert (await link.post()).status == 200


async def test_plain_http_on_a_port_for_tls_is_a_tls_error(opened: Opener) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(handler) as port, opened() as transport:
        assert (await failure_of(transport, f"https://127.0.0.1:{port}/")).startswith("TLS: ")


async def test_tls_on_a_port_for_plain_http_is_an_error_with_its_address(opened: Opener, pems: Pems) -> None:
    async with serving(keeps_answering([]), server_tls(pems)) as port, opened() as transport:
        assert f"127.0.0.1:{port}" in await failure_of(transport, f"http://127.0.0.1:{port}/")


async def test_silence_instead_of_a_handshake_is_a_timeout(opened: Opener) -> None:
    async with serving(hang) as port, opened(0.4) as transport:
        reason = await failure_of(transport, f"https://127.0.0.1:{port}/")
    assert reason in ("no answer within 0.4 s", f"cannot connect to 127.0.0.1:{port}: no answer within 0.2 s")


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_a_handshake_that_is_broken_off_names_its_server(opened: Opener, end: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        assert f"127.0.0.1:{port}" in await failure_of(transport, f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize("public_only", [False, True])
async def test_an_authority_of_the_options_is_trusted_on_both_ways(pems: Pems, public_only: bool) -> None:
    async with linking(routing, keeps_answering([]), tls=pems, allowed=LOOPBACK) as link:
        request = Request(link.url, b"x", public_only=public_only)
        assert (await link.transport.send(request)).status == 200


@pytest.mark.parametrize("shown", [True, False])
async def test_a_client_certificate_is_shown_if_the_server_asks_for_it(
    fixed: Opener, pems: Pems, shown: bool
) -> None:
    context = server_tls(pems)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pems[0])
    authority, certificate, key = (pem.read_text() for pem in pems)
    identity = (certificate, key) if shown else None
    async with linking(fixed, keeps_answering([]), tls=context, ca=authority, identity=identity) as link:
        if shown:
            assert (await link.post()).status == 200
        else:
            assert await link.failure()


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


@pytest.mark.parametrize("path", ["/", "/%2f"])
async def test_a_proxy_is_used_with_its_credentials(fixed: Opener, pems: Pems, path: str) -> None:
    proxy, seen = Proxy(), list[bytes]()
    async with serving(keeps_answering(seen), server_tls(pems)) as port, serving(proxy) as at:
        where = f"http://relay:s%40fe@127.0.0.1:{at}"
        async with fixed(ca=pems[0].read_text(), proxy=where) as transport:
            assert (await transport.send(Request(f"https://127.0.0.1:{port}{path}", b"x"))).status == 200
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
@pytest.mark.parametrize(
    "kind", [{}, {"http2": True}, {"prefers_http2": True}], ids=["http/1.1", "http/2", "either"]
)
async def test_a_proxy_that_refuses_or_requires_credentials_is_named_without_them(
    kind: dict[str, bool], status: bytes
) -> None:
    async with (
        serving(Proxy(status)) as at,
        routing(proxy=f"http://relay:word@127.0.0.1:{at}", **kind) as one,
    ):
        with pytest.raises(TransportError, match=r"^the proxy did not connect to far\.example: ") as caught:
            await one.send(Request("https://far.example/", b"x"))
    assert isinstance(caught.value, ProxyCredentialsRequired) == status.startswith(b"407")
    assert "word" not in str(caught.value)


async def test_a_tunnel_is_no_success(fixed: Opener) -> None:
    """The proxy answers CONNECT with 200, and then the handshake fails."""

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await reader.read(100)
        writer.write(b"no TLS\r\n\r\n")

    async with serving(proxy) as at, fixed(proxy=f"http://127.0.0.1:{at}") as transport:
        assert await failure_of(transport, "https://far.example/")


async def test_silence_behind_a_tunnel_is_no_success(fixed: Opener, pems: Pems) -> None:
    async with (
        serving(Proxy()) as at,
        linking(fixed, hang, tls=pems, timeout=0.5, proxy=f"http://127.0.0.1:{at}") as link,
    ):
        assert await link.failure() == "no answer within 0.5 s"


async def test_a_closed_proxy_port_is_a_transport_error(fixed: Opener) -> None:
    with closed_port() as port:
        async with fixed(proxy=f"http://relay:word@127.0.0.1:{port}") as transport:
            reason = await failure_of(transport, "http://far.example/")
    assert re.search(r"^cannot connect to .*: connection refused$", reason)
    assert "word" not in reason


async def test_a_guarded_request_goes_through_no_proxy() -> None:
    async with routing(proxy="http://127.0.0.1:9") as transport:
        with pytest.raises(Unsendable, match="neither `proxy` nor `client_cert`"):
            await transport.send(Request("http://192.0.2.1/", b"x", public_only=True))
