"""Which protocol and which client a request goes by, told by what the other side sees."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.errors import TransportError
from relay.http import open_transport
from relay.provider import Request
from relay.settings.http import HttpOptions
from testing.raw_server import keeps_answering, serving
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


async def test_without_tls_what_wants_http2_makes_do_with_the_other() -> None:
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
