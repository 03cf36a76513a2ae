"""HTTP/2 servers that misbehave to order, and the reaction of the transport to each (RFC 9113)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes

from relay.errors import TransportError
from relay.http import Transport
from relay.http.curl_http2 import STREAMS, CurlHttp2Transport
from relay.provider import Request, Response
from testing.http2_peer import Asked, Behaviour, Peer, Peering, peering
from testing.raw_server import keeps_answering
from tests.integration.http.conftest import Pems, linking, opening, server_tls


@asynccontextmanager
async def between(
    folder: Path,
    *behaviours: Behaviour,
    timeout: float = 30,
    concurrency: int = 64,
    other: str = "",
    **more: Any,
) -> AsyncIterator[tuple[Transport, Peering]]:
    """A transport that trusts a server. The server's connections follow `behaviours`, one after the
    other."""
    async with (
        peering(folder, *behaviours) as server,
        opening(
            CurlHttp2Transport, timeout, concurrency, ca=server.ca + other, http2=True, **more
        ) as transport,
    ):
        yield transport, server


class Answering:
    """Answers each request with its own path, and notes it."""

    def __init__(self, streams: int = 100) -> None:
        self.streams = streams
        self.paths: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        await peer.start(self.streams)
        await self.go_on(peer)

    async def go_on(self, peer: Peer) -> None:
        while True:
            await self.answer(peer, await peer.request())

    async def answer(self, peer: Peer, asked: Asked) -> None:
        self.paths.append(asked[":path"])
        await peer.answer(asked, body=asked[":path"].encode())


async def many(transport: Transport, server: Peering, count: int) -> list[Response | BaseException]:
    requests = [Request(f"{server.url}/{number}", b"x") for number in range(count)]
    return await asyncio.gather(*map(transport.send, requests), return_exceptions=True)


def paths(count: int) -> list[str]:
    return sorted(f"/{number}" for number in range(count))


def bodies(answers: list[Response | BaseException]) -> list[str]:
    """Fails with the first error, if there is one."""
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return sorted(answer.body.decode() for answer in answers if isinstance(answer, Response))


# The ordinary case


async def test_many_requests_share_a_connection_and_keep_their_answers(tmp_path: Path) -> None:
    server_side = Answering()
    async with between(tmp_path, server_side) as (transport, server):
        answers = await many(transport, server, 50)
        for number, answer in enumerate(answers):
            assert isinstance(answer, Response)
            assert answer.body == b"/%d" % number
        assert server.connections == 1


async def test_headers_and_body_go_over_http2(tmp_path: Path) -> None:
    seen: list[Asked] = []

    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        seen.append(asked)
        await peer.answer(asked, 410, b"gone", (("x-a", "1"),))
        await peer.read()

    async with between(tmp_path, behave) as (transport, server):
        request = Request(f"{server.url}/3/device/aa", b'{"aps":{}}', {"Apns-Topic": "com.example"})
        assert await transport.send(request) == Response(410, {"x-a": "1"}, b"gone")
    (asked,) = seen
    assert (asked[":method"], asked[":path"], asked["apns-topic"]) == ("POST", "/3/device/aa", "com.example")
    assert (asked["content-length"], bytes(asked.body)) == ("10", b'{"aps":{}}')


# The limit of streams


async def test_a_server_that_allows_one_stream_gets_all_requests(tmp_path: Path) -> None:
    server_side = Answering(streams=1)
    async with between(tmp_path, server_side) as (transport, server):
        assert bodies(await many(transport, server, 20)) == paths(20)
    assert sorted(server_side.paths) == paths(20)


async def test_a_new_connection_has_one_stream_until_its_first_answer(tmp_path: Path) -> None:
    server_side = Answering()
    first_came, go = asyncio.Event(), asyncio.Event()

    async def behave(peer: Peer) -> None:
        await peer.start(streams=1)
        asked = await peer.request()
        first_came.set()
        await go.wait()
        await server_side.answer(peer, asked)
        await peer.allow(1000)
        await server_side.go_on(peer)

    async with between(tmp_path, behave) as (transport, server):
        asking = asyncio.create_task(many(transport, server, 20))
        await first_came.wait()
        go.set()
        assert bodies(await asking) == paths(20)
    assert sorted(server_side.paths) == paths(20)


async def test_a_stream_limit_below_the_requests_in_flight_is_kept(tmp_path: Path) -> None:
    """APNs does so after rejections; httpcore hangs forever then."""
    server_side = Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = [await peer.request() for _ in range(20)]
        await peer.allow(1)
        for each in asked:
            await server_side.answer(peer, each)
        await server_side.go_on(peer)

    # A second connection is opened if the first one is full for long, as on a slow machine.
    async with between(tmp_path, behave, server_side) as (transport, server):
        assert bodies(await many(transport, server, 40)) == paths(40)
    assert sorted(server_side.paths) == paths(40)


@pytest.mark.parametrize(
    ("concurrency", "connections", "expected"),
    [(STREAMS, None, 1), (2 * STREAMS + 1, None, 3), (64, 4, 4), (2, 4, 2)],
)
async def test_requests_are_spread_over_several_connections(
    tmp_path: Path, concurrency: int, connections: int | None, expected: int
) -> None:
    server_side = Answering()
    waiting: list[tuple[Peer, Asked]] = []
    all_here = asyncio.Event()

    async def behave(peer: Peer) -> None:
        await peer.start(1000)
        while True:
            waiting.append((peer, await peer.request()))
            if len(waiting) == concurrency:
                all_here.set()

    async with between(tmp_path, behave, concurrency=concurrency, connections=connections) as (
        transport,
        server,
    ):
        asking = asyncio.create_task(many(transport, server, concurrency))
        async with asyncio.timeout(120):
            await all_here.wait()
        assert server.connections == expected
        for peer, asked in waiting:
            await server_side.answer(peer, asked)
        assert bodies(await asking) == paths(concurrency)


async def test_a_request_to_another_host_waits_for_no_request_in_flight(tmp_path: Path) -> None:
    """FCM's access tokens come from a host of their own."""
    here, go = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.start()
        asked = [await peer.request() for _ in range(4)]
        here.set()
        await go.wait()
        for each in asked:
            await peer.answer(each, body=each[":path"].encode())
        await peer.read()

    (tmp_path / "other").mkdir()
    async with (
        peering(tmp_path / "other", Answering()) as other,
        between(tmp_path, slow, connections=1, other=other.ca) as (transport, server),
    ):
        asking = asyncio.create_task(many(transport, server, 4))
        await here.wait()
        for number in range(3):
            assert (await transport.send(Request(f"{other.url}/{number}", b"x"))).status == 200
        go.set()
        assert bodies(await asking) == paths(4)
        assert (server.connections, other.connections) == (1, 1)


async def test_little_traffic_stays_on_one_connection(tmp_path: Path) -> None:
    async with between(tmp_path, Answering(), concurrency=1000) as (transport, server):
        for _ in range(3):
            bodies(await many(transport, server, 5))
        assert server.connections == 1


# RST_STREAM


async def test_a_refused_stream_is_sent_again(tmp_path: Path) -> None:
    server_side = Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        await peer.reset(await peer.request(), ErrorCodes.REFUSED_STREAM)
        await peer.read()

    async with between(tmp_path, behave, server_side) as (transport, server):
        assert bodies(await many(transport, server, 1)) == ["/0"]
    assert server_side.paths == ["/0"]


async def test_a_refused_stream_leaves_the_others_of_its_connection_alone(tmp_path: Path) -> None:
    first, second = Answering(), Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = [await peer.request() for _ in range(10)]
        await peer.reset(asked[3], ErrorCodes.REFUSED_STREAM)
        for each in asked[:3] + asked[4:]:
            await first.answer(peer, each)
        await peer.read()

    async with between(tmp_path, behave, second) as (transport, server):
        assert bodies(await many(transport, server, 10)) == paths(10)
    assert sorted(first.paths + second.paths) == paths(10)


async def test_a_stream_that_is_refused_again_and_again_is_given_up(tmp_path: Path) -> None:
    count = 0

    async def behave(peer: Peer) -> None:
        nonlocal count
        await peer.start()
        while True:
            await peer.reset(await peer.request(), ErrorCodes.REFUSED_STREAM)
            count += 1

    async with between(tmp_path, behave) as (transport, server):
        with pytest.raises(
            TransportError, match="refused the request, or closed the connection, again and again"
        ):
            await transport.send(Request(server.url, b"x"))
    assert count <= 6


@pytest.mark.parametrize("code", [ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
async def test_a_stream_that_may_have_been_processed_is_not_sent_again(
    tmp_path: Path, code: ErrorCodes
) -> None:
    """And the other streams of its connection go on."""
    server_side = Answering()
    count = 0

    async def behave(peer: Peer) -> None:
        nonlocal count
        await peer.start()
        asked = [await peer.request() for _ in range(5)]
        for each in asked:
            if each[":path"] == "/2":
                count += 1
                await peer.reset(each, code)
            else:
                await server_side.answer(peer, each)
        await server_side.go_on(peer)

    async with between(tmp_path, behave) as (transport, server):
        answers = await many(transport, server, 5)
        refused = answers.pop(2)
        assert isinstance(refused, TransportError)
        assert "ended the exchange: " in str(refused)
        assert bodies(answers) == ["/0", "/1", "/3", "/4"]
        assert server.connections == 1
    assert (count, sorted(server_side.paths)) == (1, ["/0", "/1", "/3", "/4"])


@pytest.mark.parametrize("status", [200, 500])
async def test_a_flood_of_headers_is_cut_off_and_others_go_on(tmp_path: Path, status: int) -> None:
    server_side = Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        flood = tuple((f"x-{number}", "y" * 8000) for number in range(200))
        await peer.answer(await peer.request(), status, headers=flood)
        await server_side.go_on(peer)

    async with between(tmp_path, behave, server_side) as (transport, server):
        if status == 200:
            reason = (await transport.send(Request(server.url, b"x"))).incomplete or ""
        else:
            with pytest.raises(TransportError) as caught:
                await transport.send(Request(server.url, b"x"))
            reason = str(caught.value)
        assert "did not answer in HTTP: " in reason
        assert len(reason) < 300
        assert bodies(await many(transport, server, 3)) == paths(3)


# GOAWAY


async def test_requests_that_a_goaway_covers_finish(tmp_path: Path) -> None:
    """httpx fails all ten."""
    first, second = Answering(), Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = [await peer.request() for _ in range(10)]
        await peer.goaway(asked[-1].stream)
        for each in asked:
            await first.answer(peer, each)
        await peer.read()

    async with between(tmp_path, behave, second) as (transport, server):
        assert bodies(await many(transport, server, 10)) == paths(10)
        assert bodies(await many(transport, server, 1)) == ["/0"]
        assert server.connections == 2
    assert (sorted(first.paths), second.paths) == (paths(10), ["/0"])


async def test_a_request_that_a_goaway_does_not_cover_is_sent_again_elsewhere(tmp_path: Path) -> None:
    first, second = Answering(), Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = [await peer.request() for _ in range(10)]
        await peer.goaway(asked[3].stream)
        for each in asked[:4]:
            await first.answer(peer, each)
        await peer.read()

    async with between(tmp_path, behave, second) as (transport, server):
        assert bodies(await many(transport, server, 10)) == paths(10)
        # A server that takes a tenth of a second for its SETTINGS gets a third one.
        assert server.connections > 1
    assert len(first.paths) == 4
    assert sorted(first.paths + second.paths) == paths(10)


async def test_an_unanswered_request_that_a_goaway_covers_is_not_sent_again(tmp_path: Path) -> None:
    second = Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        await peer.goaway((await peer.request()).stream)

    async with between(tmp_path, behave, second) as (transport, server):
        with pytest.raises(TransportError, match="closed the connection before it answered"):
            await transport.send(Request(server.url, b"x"))
        assert second.paths == []


async def test_the_code_of_a_goaway_is_the_reason(tmp_path: Path) -> None:
    async def behave(peer: Peer) -> None:
        await peer.start()
        await peer.request()
        await peer.goaway(0, ErrorCodes.ENHANCE_YOUR_CALM, b'{"reason":"TooManyRequests"}')
        await peer.read()

    async with between(tmp_path, behave, Answering()) as (transport, server):
        with pytest.raises(TransportError, match=r"ended the exchange: .*ENHANCE_YOUR_CALM"):
            await transport.send(Request(server.url, b"x"))
        assert (await transport.send(Request(server.url, b"x"))).status == 200


@pytest.mark.parametrize("how", ["goaway", "close", "reset", "ping and close"])
async def test_a_connection_that_ended_while_idle_costs_nothing(tmp_path: Path, how: str) -> None:
    """APNs closes idle connections, at times with a GOAWAY."""
    first, second = Answering(), Answering()
    answered, ended = asyncio.Event(), asyncio.Event()

    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        await first.answer(peer, asked)
        await answered.wait()
        match how:
            case "goaway":
                await peer.goaway(asked.stream)
            case "reset":
                peer.abort()
            case "ping and close":
                peer.h2.ping(b"anybody?")
                await peer.flush()
                peer.hang_up()
            case _:
                peer.hang_up()
        ended.set()
        if how == "goaway":
            await peer.read()

    async with between(tmp_path, behave, second) as (transport, server):
        assert bodies(await many(transport, server, 1)) == ["/0"]
        answered.set()
        await ended.wait()
        assert bodies(await many(transport, server, 1)) == ["/0"]
        assert server.connections == 2
    assert (first.paths, second.paths) == (["/0"], ["/0"])


async def test_an_idle_connection_that_got_frames_serves_the_next_request(tmp_path: Path) -> None:
    server_side = Answering()
    answered, said = asyncio.Event(), asyncio.Event()

    async def behave(peer: Peer) -> None:
        await peer.start()
        await server_side.answer(peer, await peer.request())
        await answered.wait()
        peer.h2.ping(b"anybody?")
        await peer.allow(50)
        said.set()
        await server_side.go_on(peer)

    async with between(tmp_path, behave) as (transport, server):
        assert bodies(await many(transport, server, 1)) == ["/0"]
        answered.set()
        await said.wait()
        assert bodies(await many(transport, server, 20)) == paths(20)
        assert server.connections == 1


# Timeouts


async def test_a_late_answer_fails_its_own_request_only(tmp_path: Path) -> None:
    """httpx fails all seven."""
    server_side = Answering()
    reset = asyncio.Event()

    async def behave(peer: Peer) -> None:
        await peer.start()
        late: Asked | None = None
        for _ in range(7):
            asked = await peer.request()
            if asked[":path"] == "/3":
                late = asked
            else:
                await server_side.answer(peer, asked)
        assert late is not None
        while late.stream not in peer.resets:
            await peer.read()
        reset.set()
        await server_side.go_on(peer)

    async with between(tmp_path, behave, timeout=4) as (transport, server):
        answers = await many(transport, server, 7)
        late = answers.pop(3)
        assert str(late) == "no answer within 4 s"
        assert len(bodies(answers)) == 6
        await reset.wait()
        assert bodies(await many(transport, server, 1)) == ["/0"]
        assert server.connections == 1


# Choice of the protocol


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
@pytest.mark.parametrize("needed", [True, False])
async def test_a_provider_that_needs_http2_gets_it(pems: Pems, protocols: list[str], needed: bool) -> None:
    context = server_tls(pems)
    if protocols:
        context.set_alpn_protocols(protocols)
    opened = partial(opening, CurlHttp2Transport, http2=needed, ca=pems[0].read_text())
    async with linking(opened, keeps_answering([]), tls=context) as link:
        if needed:
            assert await link.failure() == "does not speak HTTP/2, and this provider needs it"
        else:
            assert (await link.post()).status == 200
