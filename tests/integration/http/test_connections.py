"""The contract of a transport: which connections are opened, reused and given up."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack

import pytest

from relay.errors import TransportError
from relay.http import Unsendable
from relay.provider import Request
from testing.raw_server import (
    hang,
    keeps_answering,
    linger_zero,
    read_request,
    serving,
    silent_address,
    was_read,
)
from tests.integration.http.conftest import Opener

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


# No connection


async def test_a_closed_port_is_a_transport_error(opened: Opener) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with opened() as transport:
            with pytest.raises(
                TransportError, match=f"^cannot connect to 127.0.0.1:{port}: connection refused$"
            ):
                await transport.send(Request(f"http://127.0.0.1:{port}/"))


async def test_a_server_that_never_answers(opened: Opener) -> None:
    async with serving(hang) as port, opened(timeout=0.3) as transport:
        with pytest.raises(TransportError, match=r"^no answer within 0\.3 s$"):
            await transport.send(Request(f"http://127.0.0.1:{port}/"))


async def test_a_name_that_does_not_resolve(opened: Opener) -> None:
    async with opened() as transport:
        with pytest.raises(TransportError, match=r"^DNS: relay-test\.invalid cannot be resolved: "):
            await transport.send(Request("http://relay-test.invalid/"))


async def test_a_silent_address_is_a_timeout(opened: Opener) -> None:
    with silent_address() as (host, port):
        async with opened(0.2) as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(Request(f"http://{host}:{port}/", b"x"))
    assert not isinstance(caught.value, Unsendable)
    assert str(caught.value) in (
        "no answer within 0.2 s",
        f"cannot connect to {host}:{port}: no answer within 0.1 s",
    )


# Names with several addresses


async def test_a_name_with_one_closed_address_is_reached_at_the_other(opened: Opener) -> None:
    """IPv6 first, as resolvers return it; the server listens on 127.0.0.1 only."""
    async with serving(keeps_answering([])) as port:
        addresses = [f"both.example:{port}:[::1],127.0.0.1"]
        async with opened(addresses=addresses) as transport:
            assert (await transport.send(Request(f"http://both.example:{port}/", b"x"))).status == 200


@pytest.mark.parametrize("dead", ["[2606:4700::1]", "127.0.0.2"], ids=["no route", "silence"])
async def test_an_address_without_an_answer_comes_before_a_good_one(opened: Opener, dead: str) -> None:
    """Happy eyeballs (RFC 8305): the next address is tried before the first one has timed out."""
    started = time.monotonic()
    async with serving(keeps_answering([])) as port:
        addresses = [f"both.example:{port}:{dead},127.0.0.1"]
        with silent_address(port):
            async with opened(900, addresses=addresses) as transport:
                response = await transport.send(Request(f"http://both.example:{port}/", b"x"))
    assert response.status == 200
    assert time.monotonic() - started < 120


async def test_ipv6_is_spoken(opened: Opener) -> None:
    listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    async with serving(keeps_answering([]), bound=listening) as port, opened() as transport:
        assert (await transport.send(Request(f"http://[::1]:{port}/", b"x"))).status == 200


# Connections that the server has closed


async def test_an_idle_connection_that_was_closed_costs_nothing(opened: Opener) -> None:
    connections = 0
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with serving(handler) as port, opened() as transport:
        for number in (1, 2, 3):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status == 200
            await gone.wait()
            gone.clear()
            assert connections == number


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_a_reused_connection_that_ends_before_its_answer_costs_no_attempt(
    opened: Opener, end: str
) -> None:
    """The other side closed it while the request was on its way: the request goes out once more."""
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        for _ in range(3):
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status == 200
    assert connections == 3


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_a_fresh_connection_that_ends_before_its_answer_is_an_attempt(opened: Opener, end: str) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        with pytest.raises(
            TransportError, match=f"^127.0.0.1:{port} closed the connection before it answered$"
        ):
            await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
    assert connections == 1


@pytest.mark.parametrize("end", ["closed", "reset"])
async def test_a_request_whose_answer_breaks_off_is_not_repeated(opened: Opener, end: str) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"Content-Length: 0\r\n\r\n", b"Content-Length: 9\r\n\r\nshort"):
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\n" + answer)
            await was_read(writer)
        if end == "reset":
            linger_zero(writer)

    async with serving(handler) as port, opened() as transport:
        await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))
        assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).incomplete
    assert len(seen) == 2


async def test_idle_connections_make_room_for_connections_to_other_servers(opened: Opener) -> None:
    async with AsyncExitStack() as servers, opened(concurrency=2) as transport:
        ports = [await servers.enter_async_context(serving(keeps_answering([]))) for _ in range(5)]
        for port in ports * 2:
            assert (await transport.send(Request(f"http://127.0.0.1:{port}/", b"x"))).status == 200


async def test_more_requests_than_connections_are_all_sent(opened: Opener) -> None:
    async with AsyncExitStack() as servers, opened(concurrency=2) as transport:
        ports = [await servers.enter_async_context(serving(keeps_answering([]))) for _ in range(5)]
        requests = [Request(f"http://127.0.0.1:{port}/", b"x") for port in ports * 4]
        responses = await asyncio.gather(*map(transport.send, requests))
    assert [response.status for response in responses] == [200] * 20
