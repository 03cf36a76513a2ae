"""HTTP/2 servers that misbehave to order, and what the transport makes of each (RFC 9113)."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from h2.errors import ErrorCodes

from relay.errors import TransportError
from relay.http.curl_http2 import STREAMS, CurlHttp2Transport
from relay.http.transport import BODY_LIMIT
from relay.provider import Request, Response
from testing.http2_peer import Asked, Behaviour, Peer, Peering, peering
from testing.http2_server import certificates
from testing.raw_server import keeps_answering, serving


@asynccontextmanager
async def between(
    folder: Path,
    *behaviours: Behaviour,
    timeout: float = 30,
    concurrency: int = 64,
    other: str = "",
    **more: Any,
) -> AsyncIterator[tuple[CurlHttp2Transport, Peering]]:
    """A transport that trusts a server, whose connections behave so, one after the other."""
    async with peering(folder, *behaviours) as server:
        transport = CurlHttp2Transport(
            timeout=timeout, concurrency=concurrency, ca=server.ca + other, http2=True, **more
        )
        try:
            yield transport, server
        finally:
            await transport.close()


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


async def many(transport: CurlHttp2Transport, server: Peering, count: int) -> list[Response | BaseException]:
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


async def test_headers_over_http2(tmp_path: Path) -> None:
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
    assert (asked[":method"], asked[":path"], asked["apns-topic"]) == (
        "POST",
        "/3/device/aa",
        "com.example",
    )
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

    async with between(tmp_path, behave) as (transport, server):
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


async def test_headers_of_more_than_64_kib_are_too_long(tmp_path: Path) -> None:
    async def behave(peer: Peer) -> None:
        await peer.start()
        long = tuple((f"x-{number}", "y" * 8000) for number in range(9))
        await peer.answer(await peer.request(), 500, headers=long)
        await peer.read()

    async with between(tmp_path, behave) as (transport, server):
        with pytest.raises(TransportError, match="its headers are too long"):
            await transport.send(Request(server.url, b"x"))


@pytest.mark.parametrize("number", [16, 17])
async def test_sixteen_informational_answers_may_come_before_the_answer(tmp_path: Path, number: int) -> None:
    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        for _ in range(number):
            peer.h2.send_headers(asked.stream, [(":status", "103"), ("link", "</a.css>")])
        await peer.answer(asked)
        await peer.read()

    async with between(tmp_path, behave) as (transport, server):
        if number == 16:
            assert (await transport.send(Request(server.url, b"x"))).status == 200
        else:
            with pytest.raises(TransportError, match="more than 16 informational responses"):
                await transport.send(Request(server.url, b"x"))


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
        assert server.connections == 2
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


# Connections without a word


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_ends_in_flight_is_not_taken_for_a_refusal(tmp_path: Path, end: str) -> None:
    second = Answering()

    async def behave(peer: Peer) -> None:
        await peer.start()
        await peer.request()
        if end == "reset":
            peer.abort()

    async with between(tmp_path, behave, second) as (transport, server):
        with pytest.raises(TransportError, match="closed the connection before it answered"):
            await transport.send(Request(server.url, b"x"))
        assert second.paths == []
        assert (await transport.send(Request(server.url, b"x"))).status == 200


async def test_a_connection_whose_server_hangs_serves_no_request_after_the_timeout(tmp_path: Path) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.start()
        await peer.request()
        await asyncio.Event().wait()

    async with between(tmp_path, deaf, Answering(), timeout=1) as (transport, server):
        with pytest.raises(TransportError, match="no answer within 1 s"):
            await transport.send(Request(server.url, b"x"))
        assert (await transport.send(Request(server.url, b"x"))).status == 200
        assert server.connections == 2


# Time-outs, cancelled tasks, bodies


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


async def test_a_cancelled_request_ends_with_its_time_and_spares_its_connection(tmp_path: Path) -> None:
    server_side = Answering()
    came, reset = asyncio.Event(), asyncio.Event()

    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        came.set()
        while asked.stream not in peer.resets:
            await peer.read()
        reset.set()
        await server_side.go_on(peer)

    async with between(tmp_path, behave, timeout=4, concurrency=1) as (transport, server):
        task = asyncio.create_task(transport.send(Request(server.url, b"x")))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(120):
            await reset.wait()
        assert bodies(await many(transport, server, 1)) == ["/0"]
        assert server.connections == 1


async def test_an_endless_body_is_cut_and_spares_its_connection(tmp_path: Path) -> None:
    server_side = Answering()
    sent = 0

    async def behave(peer: Peer) -> None:
        nonlocal sent
        await peer.start()
        asked = await peer.request()
        peer.h2.send_headers(asked.stream, [(":status", "200")])
        while asked.stream not in peer.resets:
            room = min(peer.h2.local_flow_control_window(asked.stream), 16384)
            if room:
                peer.h2.send_data(asked.stream, b"x" * room)
                sent += room
                await peer.flush()
            else:
                await peer.read()
        await server_side.go_on(peer)

    async with between(tmp_path, behave) as (transport, server):
        answer = await transport.send(Request(server.url, b"x"))
        assert (answer.status, len(answer.body)) == (200, BODY_LIMIT)
        assert answer.incomplete == "the body is longer than 64 KiB"
        assert bodies(await many(transport, server, 1)) == ["/0"]
        assert server.connections == 1
    assert sent <= 8 * BODY_LIMIT


# A status of 2xx counts, whatever follows it


@pytest.mark.parametrize("how", ["reset", "close", "silence"])
async def test_a_success_whose_body_never_ends_is_a_success(tmp_path: Path, how: str) -> None:
    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        peer.h2.send_headers(asked.stream, [(":status", "202"), ("x-id", "7")])
        peer.h2.send_data(asked.stream, b"half")
        await peer.settled()
        if how == "reset":
            await peer.reset(asked, ErrorCodes.INTERNAL_ERROR)
        if how != "close":
            await peer.read()
            await asyncio.Event().wait()

    async with between(tmp_path, behave, timeout=1 if how == "silence" else 30) as (transport, server):
        response = await transport.send(Request(server.url, b"x"))
    assert (response.status, response.headers["x-id"]) == (202, "7")
    assert response.incomplete is not None
    assert response.incomplete.isprintable()


@pytest.mark.parametrize("how", ["reset", "close", "silence"])
async def test_a_failure_whose_body_never_ends_is_no_response(tmp_path: Path, how: str) -> None:
    async def behave(peer: Peer) -> None:
        await peer.start()
        asked = await peer.request()
        peer.h2.send_headers(asked.stream, [(":status", "500")])
        peer.h2.send_data(asked.stream, b"half")
        await peer.settled()
        if how == "reset":
            await peer.reset(asked, ErrorCodes.INTERNAL_ERROR)
        if how != "close":
            await peer.read()
            await asyncio.Event().wait()

    async with between(tmp_path, behave, timeout=1 if how == "silence" else 30) as (transport, server):
        with pytest.raises(TransportError) as caught:
            await transport.send(Request(server.url, b"x"))
    assert str(caught.value).isprintable()


async def test_a_success_with_many_headers_is_a_success(tmp_path: Path) -> None:
    headers = (("x-long", "y" * 10_000), *((f"x-{number}", "y") for number in range(200)))

    async def behave(peer: Peer) -> None:
        await peer.start()
        await peer.answer(await peer.request(), headers=headers)
        await peer.read()

    async with between(tmp_path, behave) as (transport, server):
        response = await transport.send(Request(server.url, b"x"))
    assert (response.status, len(response.headers)) == (200, 201)


@pytest.mark.parametrize("status", [200, 400])
async def test_a_gzip_body_is_unpacked(tmp_path: Path, status: int) -> None:
    async def behave(peer: Peer) -> None:
        await peer.start()
        body = gzip.compress(b'\xef\xbb\xbf{"reason": "x"}')
        await peer.answer(await peer.request(), status, body, (("content-encoding", "gzip"),))
        await peer.read()

    async with between(tmp_path, behave) as (transport, server):
        response = await transport.send(Request(server.url, b"x"))
    assert (response.status, response.body) == (status, b'{"reason": "x"}')


# Which protocol


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
async def test_a_provider_that_needs_http2_says_so(tmp_path: Path, protocols: list[str]) -> None:
    authority, certificate, key = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if protocols:
        context.set_alpn_protocols(protocols)
    transports = [
        CurlHttp2Transport(timeout=5, concurrency=1, ca=authority.read_text(), http2=http2)
        for http2 in (True, False)
    ]
    async with serving(keeps_answering([]), context) as port:
        with pytest.raises(TransportError, match="does not speak HTTP/2, and this provider needs it"):
            await transports[0].send(Request(f"https://127.0.0.1:{port}/", b"x"))
        assert (await transports[1].send(Request(f"https://127.0.0.1:{port}/", b"x"))).status == 200
    for transport in transports:
        await transport.close()


async def test_http2_is_used_if_the_server_offers_it(tmp_path: Path) -> None:
    async with peering(tmp_path, Answering()) as server:
        transport = CurlHttp2Transport(timeout=5, concurrency=1, ca=server.ca)
        assert bodies(await many(transport, server, 1)) == ["/0"]
        await transport.close()
