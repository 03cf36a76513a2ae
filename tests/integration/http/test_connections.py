"""The contract of a transport: which connections are opened, reused and given up."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack

import pytest

from relay.provider import Request
from testing.raw_server import (
    Handler,
    closed_port,
    hang,
    keeps_answering,
    linger_zero,
    read_request,
    says,
    serving,
    silent_address,
    was_read,
)
from tests.integration.http.conftest import OK, Linked, Opener, failure_of

BOTH_ENDS = pytest.mark.parametrize("end", ["closed", "reset"])


def answers_then_ends(answers: int, end: str) -> Handler:
    """Answers some requests of a connection, reads one more, and ends the connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(answers):
            await read_request(reader)
            writer.write(OK)
        await read_request(reader)
        if end == "reset":
            linger_zero(writer)

    return handler


# No connection


async def test_a_closed_port_is_a_transport_error(opened: Opener) -> None:
    with closed_port() as port:
        async with opened() as transport:
            reason = await failure_of(transport, f"http://127.0.0.1:{port}/")
    assert reason == f"cannot connect to 127.0.0.1:{port}: connection refused"


async def test_a_server_that_never_answers_is_a_timeout(linked: Linked) -> None:
    async with linked(hang, timeout=0.3) as link:
        assert await link.failure() == "no answer within 0.3 s"


async def test_a_name_that_does_not_resolve_is_a_dns_error(opened: Opener) -> None:
    async with opened() as transport:
        reason = await failure_of(transport, "http://relay-test.invalid/")
    assert reason.startswith("DNS: relay-test.invalid cannot be resolved: ")


async def test_a_silent_address_is_a_timeout(opened: Opener) -> None:
    with silent_address() as (host, port):
        async with opened(0.2) as transport:
            reason = await failure_of(transport, f"http://{host}:{port}/")
    assert reason in ("no answer within 0.2 s", f"cannot connect to {host}:{port}: no answer within 0.1 s")


# Names with several addresses


@pytest.mark.parametrize(
    "dead", ["[::1]", "[2606:4700::1]", "127.0.0.2"], ids=["closed port", "no route", "silence"]
)
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


async def test_an_idle_connection_that_was_closed_costs_nothing(linked: Linked) -> None:
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(OK)(reader, writer)
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with linked(handler) as link:
        for number in (1, 2, 3):
            assert (await link.post()).status == 200
            await gone.wait()
            gone.clear()
            assert link.connections == number


@BOTH_ENDS
async def test_a_reused_connection_that_ends_before_its_answer_costs_no_attempt(
    linked: Linked, end: str
) -> None:
    """The other side closed it while the request was on its way: the request is sent again."""
    async with linked(answers_then_ends(1, end)) as link:
        for _ in range(3):
            assert (await link.post()).status == 200
        assert link.connections == 3


@BOTH_ENDS
async def test_a_fresh_connection_that_ends_before_its_answer_is_an_attempt(linked: Linked, end: str) -> None:
    async with linked(answers_then_ends(0, end)) as link:
        assert await link.failure() == "closed the connection before it answered"
        assert link.connections == 1


@BOTH_ENDS
async def test_a_request_whose_answer_breaks_off_is_not_repeated(linked: Linked, end: str) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (OK, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"):
            seen.append(await read_request(reader))
            writer.write(answer)
            await was_read(writer)
        if end == "reset":
            linger_zero(writer)

    async with linked(handler) as link:
        await link.post()
        assert (await link.post()).incomplete
    assert len(seen) == 2


async def test_idle_connections_make_room_for_connections_to_other_servers(opened: Opener) -> None:
    async with AsyncExitStack() as servers, opened(concurrency=2) as transport:
        ports = [await servers.enter_async_context(serving(keeps_answering([]))) for _ in range(5)]
        requests = [Request(f"http://127.0.0.1:{port}/", b"x") for port in ports]
        for request in requests * 2:
            assert (await transport.send(request)).status == 200
        responses = await asyncio.gather(*map(transport.send, requests * 4))  # more than connections
    assert [response.status for response in responses] == [200] * 20
