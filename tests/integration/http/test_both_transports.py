"""What both transports do alike, against real sockets. What servers can do to them is in test_trouble.py."""

from __future__ import annotations

import asyncio
import gzip
import socket

import pytest

from relay.errors import TransportError
from relay.http import Unsendable, open_transport
from relay.http.transport import BODY_LIMIT, Exchange
from relay.provider import Request, Response
from relay.settings.http import HttpOptions
from testing.raw_server import hang, keeps_answering, read_request, says, serving
from tests.integration.http.conftest import Opener

# What comes back


async def test_names_of_headers_come_in_lower_case(opened: Opener) -> None:
    answer = b"HTTP/1.1 429 Slow\r\nRETRY-After: 3\r\nContent-Length: 0\r\n\r\n"
    async with serving(says(answer)) as port, opened() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
    assert (response.status, response.headers["retry-after"]) == (429, "3")


async def test_cookies_are_not_kept(opened: Opener) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with serving(handler) as port, opened() as transport:
        for _ in range(2):
            await transport.send(Request(f"http://localhost:{port}/"))
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


async def test_a_redirect_is_not_followed(opened: Opener) -> None:
    seen: list[bytes] = []
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
    async with (
        serving(keeps_answering(seen)) as other,
        serving(says(answer % other)) as port,
        opened() as transport,
    ):
        response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
    assert (response.status, seen) == (302, [])


async def test_a_compressed_body_stays_as_it_is(opened: Opener) -> None:
    bomb = gzip.compress(bytes(10 << 20))
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with serving(says(answer + bomb)) as port, opened() as transport:
        assert (await transport.send(Request(f"http://127.0.0.1:{port}/"))).body == bomb


async def test_proxies_of_the_environment_are_not_used(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(keeps_answering([])) as port, opened() as transport:
        assert (await transport.send(Request(f"http://127.0.0.1:{port}/"))).status == 200


# Answers that do not end, or end wrongly


async def test_an_endless_body_is_cut_and_costs_its_connection(opened: Opener) -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
        finally:
            closed.set()

    async with serving(handler) as port, opened() as transport:
        response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
        assert (response.status, len(response.body)) == (200, BODY_LIMIT)
        async with asyncio.timeout(120):
            await closed.wait()


async def test_a_body_of_just_the_limit_is_whole_and_keeps_its_connection(opened: Opener) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_LIMIT + b"x" * BODY_LIMIT)

    async with serving(handler) as port, opened() as transport:
        for _ in range(2):
            response = await transport.send(Request(f"http://127.0.0.1:{port}/"))
            assert len(response.body) == BODY_LIMIT
    assert connections == 1


async def test_a_body_that_drips_ends_with_the_time_limit(opened: Opener) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    async with serving(handler) as port, opened(timeout=0.3) as transport:
        with pytest.raises(TransportError, match=r"^no answer within 0\.3 s$"):
            await transport.send(Request(f"http://127.0.0.1:{port}/"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "broke off its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "broke off its answer"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            # hyper tells a chunk that is none from no end no more.
            ("broke off its answer", "did not answer in HTTP: "),
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer in HTTP: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "did not answer in HTTP: "),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n", "did not answer in HTTP: "),
    ],
)
async def test_an_answer_that_is_none(opened: Opener, answer: bytes, reason: str | tuple[str, ...]) -> None:
    async with serving(says(answer)) as port, opened() as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(Request(f"http://127.0.0.1:{port}/"))
    text = str(caught.value)
    assert text.removeprefix(f"127.0.0.1:{port} ").startswith(reason)
    assert "\n" not in text
    assert len(text) < 300
    assert not isinstance(caught.value, Unsendable)


# No answer at all


async def test_nobody_listens(opened: Opener) -> None:
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


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "http:///path",
        "ftp://example.com/",
        "http://example.com:99999/",
        "http://a..b/",
        f"http://{'a' * 64}.example.com/",
    ],
)
async def test_what_is_no_url_can_never_be_sent(opened: Opener, url: str) -> None:
    async with opened() as transport:
        with pytest.raises(Unsendable) as caught:
            await transport.send(Request(url, b"x"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {"x\r\ny": "a"}, {"x": "a\nb"}])
async def test_a_line_break_never_reaches_the_wire(opened: Opener, headers: dict[str, str]) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as transport:
        with pytest.raises(Unsendable) as caught:
            await transport.send(Request(f"http://127.0.0.1:{port}/", b"x", headers))
    assert not seen
    assert "\n" not in str(caught.value)


# Connections that the other side has closed, and tasks that are cancelled


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


async def test_cancelling_is_not_swallowed(opened: Opener) -> None:
    async with serving(hang) as port, opened() as transport:
        task = asyncio.create_task(transport.send(Request(f"http://127.0.0.1:{port}/")))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Answers by a call


async def test_who_begins_a_request_is_called_with_its_answer_and_may_begin_another(opened: Opener) -> None:
    told: list[tuple[Exchange, Exchange, int]] = []
    done = asyncio.Event()
    async with serving(keeps_answering([])) as port, opened() as transport:
        begun: list[Exchange] = []

        def on_answer(exchange: Exchange, answer: Response | Exception) -> None:
            assert isinstance(answer, Response)
            told.append((exchange, begun[-1], answer.status))
            if len(told) < 5:
                begun.append(transport.begin(Request(f"http://127.0.0.1:{port}/", b"x"), on_answer))
            else:
                done.set()

        begun.append(transport.begin(Request(f"http://127.0.0.1:{port}/", b"x"), on_answer))
        assert told == []
        await done.wait()
    assert [status for _, _, status in told] == [200] * 5
    assert all(ended is known for ended, known, _ in told)


async def test_who_begins_a_request_is_told_why_there_is_no_answer(opened: Opener) -> None:
    told: asyncio.Future[Response | Exception] = asyncio.get_running_loop().create_future()
    async with serving(says(b"")) as port, opened() as transport:
        url = f"http://127.0.0.1:{port}/"
        transport.begin(Request(url, b"x"), lambda exchange, answer: told.set_result(answer))
        answer = await told
        assert isinstance(answer, TransportError)
        assert "closed the connection before it answered" in str(answer)


async def test_nobody_hears_of_a_request_that_was_taken_back(opened: Opener) -> None:
    told: list[Response | Exception] = []
    async with serving(hang) as slow, serving(keeps_answering([])) as quick, opened() as transport:
        taken_back = transport.begin(
            Request(f"http://127.0.0.1:{slow}/", b"x"), lambda exchange, answer: told.append(answer)
        )
        await asyncio.sleep(0.02)
        taken_back.cancel()
        ended: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
        request = Request(f"http://127.0.0.1:{quick}/", b"x")
        transport.begin(request, lambda exchange, answer: ended.set_result(exchange))
        (await ended).cancel()  # nothing is left to take
        answers = await asyncio.gather(*(transport.send(request) for _ in range(3)))
        assert [answer.status for answer in answers] == [200] * 3
    assert told == []


@pytest.mark.parametrize("way", ["send", "begin"])
async def test_a_receiver_that_echoes_our_secrets_does_not_spread_them(way: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n" % len(request) + request)

    options = HttpOptions.model_validate({"type": "x"})
    async with serving(echo) as port:
        transport = open_transport(options)
        request = Request(f"http://127.0.0.1:{port}/", b"x", {"authorization": "Bearer very-secret-0123"})
        if way == "send":
            answer: Response | Exception = await transport.send(request)
        else:
            told: asyncio.Future[Response | Exception] = asyncio.get_running_loop().create_future()
            transport.begin(request, lambda exchange, answer: told.set_result(answer))
            answer = await told
        await transport.close()
    assert isinstance(answer, Response)
    assert b"authorization" in answer.body.lower()
    assert b"very-secret-0123" not in answer.body
