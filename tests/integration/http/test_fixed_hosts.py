"""What both clients of fixed hosts do alike over HTTP/1.1, TLS and proxies: libcurl and pyreqwest.

What all transports share is in test_both_transports.py, HTTP/2 in test_http2.py.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay import __version__
from relay.errors import TransportError
from relay.http import Transport, Unsendable, open_transport
from relay.http.curl_transport import CurlTransport
from relay.http.reqwest_transport import ReqwestTransport
from relay.provider import Request
from relay.settings.http import HttpOptions
from testing.raw_server import keeps_answering, says, serving
from tests.integration.http.conftest import server_tls

Opened = Callable[..., AbstractAsyncContextManager[Transport]]


@pytest.fixture(params=[CurlTransport, ReqwestTransport])
def fixed(request: pytest.FixtureRequest) -> Opened:
    """Opens a transport for fixed hosts, of either client."""

    @asynccontextmanager
    async def opening(timeout: float = 30, concurrency: int = 8, **more: Any) -> AsyncIterator[Transport]:
        transport = request.param(timeout=timeout, concurrency=concurrency, **more)
        try:
            yield transport
        finally:
            await transport.close()

    return opening


# What goes out and what comes back


async def test_a_request_goes_out_as_it_is(fixed: Opened) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, fixed() as transport:
        url = f"http://127.0.0.1:{port}/a%41%2Fb%2C/c?x=%2C&y=[1]"
        headers = {"content-type": "x/y", "x-id": "A b", "x-none": "", "x-city": "München"}
        response = await transport.send(Request(url, b'{"a": 1}', headers))
    assert (response.status, response.body) == (200, b"{}")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    lines = {line.lower() for line in rest}
    assert first == "POST /a%41%2Fb%2C/c?x=%2C&y=[1] HTTP/1.1"
    assert {f"user-agent: relay/{__version__}", "content-type: x/y", "x-id: a b", "x-city: münchen"} <= lines
    assert {"x-none:", "x-none: "} & lines
    assert body == b'{"a": 1}'
    assert not any(line.startswith(("accept-encoding", "cookie", "referer")) for line in lines)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_an_empty_body_has_a_length_and_no_type(fixed: Opened, method: str) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, fixed() as transport:
        await transport.send(Request(f"http://127.0.0.1:{port}", method=method))
    assert seen[0].startswith(f"{method} / HTTP/1.1\r\n".encode())
    assert b"content-length: 0\r\n" in seen[0].lower()
    assert b"content-type" not in seen[0].lower()


async def test_a_header_that_is_not_ascii_does_not_cost_the_answer(fixed: Opened) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-City: M\xfcnchen\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nok"
    async with serving(says(answer)) as port, fixed() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers.items() >= {"retry-after": "3", "content-length": "2"}.items()


async def test_what_is_no_url_is_refused_without_its_credentials(fixed: Opened) -> None:
    async with fixed() as transport:
        with pytest.raises(Unsendable) as caught:
            await transport.send(Request("http://user:word@/path", b"x"))
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\0b"},
        {"": "a"},
        {"x": " a"},
        {"x": "a\t"},
        {"Host": "example.com"},
        {"Content-Length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"connection": "close"},
    ],
)
async def test_headers_that_break_a_connection_never_reach_it(fixed: Opened, headers: dict[str, str]) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, fixed() as transport:
        with pytest.raises(Unsendable, match="cannot be sent") as caught:
            await transport.send(Request(f"http://127.0.0.1:{port}/", b"x", headers))
    assert not seen
    assert "\n" not in str(caught.value)


def _addresses(name: str) -> set[str]:
    return {str(found[4][0]) for found in socket.getaddrinfo(name, 1, type=socket.SOCK_STREAM)}


@pytest.mark.skipif(
    _addresses("localhost") != {"::1", "127.0.0.1"}, reason="localhost has not both addresses here"
)
async def test_a_name_with_an_address_where_nobody_listens_is_reached_at_the_other(fixed: Opened) -> None:
    """The server is at 127.0.0.1 alone. Neither takes a resolver of ours: the system has to have both."""
    async with serving(keeps_answering([])) as port, fixed() as transport:
        assert (await transport.send(Request(f"http://localhost:{port}/", b"x"))).status == 200


# TLS


def tls_options(pems: tuple[Path, Path, Path], **more: Any) -> HttpOptions:
    return HttpOptions(type="x", timeout=5, concurrency=2, ca=pems[0].read_text(), **more)


@pytest.mark.parametrize("public_only", [False, True])
async def test_an_authority_of_the_options_is_trusted_on_both_ways(
    pems: tuple[Path, Path, Path], public_only: bool
) -> None:
    from ipaddress import ip_network

    transport = open_transport(tls_options(pems), allowed=[ip_network("127.0.0.0/8")])
    async with serving(keeps_answering([]), server_tls(pems)) as port:
        request = Request(f"https://127.0.0.1:{port}/", b"x", public_only=public_only)
        assert (await transport.send(request)).status == 200
        await transport.close()


async def test_a_client_certificate_is_shown_where_it_is_asked_for(
    fixed: Opened, pems: tuple[Path, Path, Path]
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


# A proxy


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


async def test_a_proxy_is_used_with_its_credentials(fixed: Opened, pems: tuple[Path, Path, Path]) -> None:
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
async def test_a_proxy_that_refuses(fixed: Opened, status: bytes) -> None:
    async with (
        serving(Proxy(status)) as at,
        fixed(proxy=f"http://relay:word@127.0.0.1:{at}") as transport,
    ):
        with pytest.raises(TransportError, match=r"^the proxy did not connect to far\.example: ") as caught:
            await transport.send(Request("https://far.example/", b"x"))
    assert "word" not in str(caught.value)


async def test_a_proxy_where_nobody_listens(fixed: Opened) -> None:
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
