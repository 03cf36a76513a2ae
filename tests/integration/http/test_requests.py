"""The contract of a transport: the bytes of a request, and requests that are refused before any byte is
sent."""

from __future__ import annotations

import asyncio

import pytest

from relay import __version__
from relay.errors import TransportError
from relay.http import Unsendable
from relay.http.transport import PendingRequest
from relay.provider import Request, Response
from testing.raw_server import hang, keeps_answering, says, serving
from tests.integration.http.conftest import Linked, Opener


async def test_a_request_goes_out_byte_for_byte(linked: Linked) -> None:
    seen: list[bytes] = []
    headers = {"Content-Type": "x/y", "x-id": "A b", "x-none": "", "x-city": "München"}
    async with linked(keeps_answering(seen)) as link:
        path = "/a%41%2fb%2C/../c?x=%2C|&q=%E2&y=[1]#fragment"
        response = await link.post(path, b'{"a": 1}', headers)
    assert (response.status, response.body, response.incomplete) == (200, b"{}", None)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    lines = {line.lower() for line in rest}
    assert first == "POST /a%41%2fb%2C/../c?x=%2C|&q=%E2&y=[1] HTTP/1.1"
    assert {f"user-agent: relay/{__version__}", "content-type: x/y", "x-id: a b", "x-city: münchen"} <= lines
    assert {"x-none:", "x-none: "} & lines
    assert body == b'{"a": 1}'
    assert not any(line.startswith(("accept-encoding", "cookie", "referer", "expect")) for line in lines)


async def test_a_handle_that_sent_an_escape_sends_the_next_urls_as_they_are(linked: Linked) -> None:
    seen: list[bytes] = []
    targets = ["/%c3%bc", "/a?b", "?c", "", "/%C3%BC/%2f#d"]
    async with linked(keeps_answering(seen)) as link:
        for target in targets:
            await link.post(target)
    assert [each.split(b" ")[1] for each in seen] == [b"/%c3%bc", b"/a?b", b"/?c", b"/", b"/%C3%BC/%2f"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_an_empty_body_has_a_length_and_no_type(linked: Linked, method: str) -> None:
    seen: list[bytes] = []
    async with linked(keeps_answering(seen)) as link:
        await link.transport.send(Request(link.url, method=method))
    assert seen[0].startswith(f"{method} / HTTP/1.1\r\n".encode())
    assert b"content-length: 0\r\n" in seen[0].lower()
    assert b"content-type" not in seen[0].lower()


async def test_bodies_of_any_size_follow_each_other_byte_for_byte(linked: Linked) -> None:
    seen: list[bytes] = []
    sent = [bytes(range(256)) * number for number in (1, 80, 0, 256, 4000, 63, 57, 1)]
    async with linked(keeps_answering(seen)) as link:
        for body in sent:
            await link.post("/", body)
    assert [each.partition(b"\r\n\r\n")[2] for each in seen] == sent


async def test_a_line_break_in_a_path_is_escaped_or_refused(linked: Linked) -> None:
    seen: list[bytes] = []
    async with linked(keeps_answering(seen)) as link:
        await link.post("/a\r\nX: y")
    assert b"\r\nX: y" not in seen[0]


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "http:///path",
        "http://user:word@/path",
        "ftp://example.com/",
        "http://example.com:99999/",
        "http://a..b/",
        f"http://{'a' * 64}.example.com/",
    ],
)
async def test_an_invalid_url_can_never_be_sent(opened: Opener, url: str) -> None:
    async with opened() as transport:
        with pytest.raises(Unsendable) as caught:
            await transport.send(Request(url, b"x"))
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\r\nb: c"},
        {"x\r\ny": "a"},
        {"x": "a\nb"},
        {"x": "a\0b"},
        {"": "a"},
        {"x": " a"},
        {"x": "a\t"},
        {"Host": "example.com"},
        {"Content-Length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"Proxy-Authorization": "Basic eA=="},
        {"connection": "close"},
    ],
)
async def test_a_header_that_breaks_a_connection_never_goes_out(
    linked: Linked, headers: dict[str, str]
) -> None:
    seen: list[bytes] = []
    async with linked(keeps_answering(seen)) as link:
        with pytest.raises(Unsendable, match="cannot be sent") as caught:
            await link.post(headers=headers)
    assert not seen
    assert "\n" not in str(caught.value)


async def test_proxies_of_the_environment_are_not_used(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with linked(keeps_answering([])) as link:
        assert (await link.post()).status == 200


# Callbacks and cancellation


async def test_a_callback_gets_the_response_and_may_start_another_request(linked: Linked) -> None:
    results: list[tuple[PendingRequest, PendingRequest, int]] = []
    done = asyncio.Event()
    async with linked(keeps_answering([])) as link:
        started: list[PendingRequest] = []
        request = Request(link.url, b"x")

        def on_done(pending: PendingRequest, result: Response | Exception) -> None:
            assert isinstance(result, Response)
            results.append((pending, started[-1], result.status))
            if len(results) < 5:
                started.append(link.transport.start(request, on_done))
            else:
                done.set()

        started.append(link.transport.start(request, on_done))
        assert results == []
        await done.wait()
    assert [status for _, _, status in results] == [200] * 5
    assert all(ended is known for ended, known, _ in results)


async def test_a_callback_gets_the_reason_for_a_missing_response(linked: Linked) -> None:
    done: asyncio.Future[Response | Exception] = asyncio.get_running_loop().create_future()
    async with linked(says(b"")) as link:
        link.transport.start(Request(link.url, b"x"), lambda pending, result: done.set_result(result))
        result = await done
        assert isinstance(result, TransportError)
        assert "closed the connection before it answered" in str(result)


async def test_a_cancelled_request_notifies_nobody_and_spares_the_next_ones(opened: Opener) -> None:
    called: list[Response | Exception] = []
    async with serving(hang) as slow, serving(keeps_answering([])) as quick, opened() as transport:
        cancelled = transport.start(
            Request(f"http://127.0.0.1:{slow}/", b"x"), lambda pending, result: called.append(result)
        )
        await asyncio.sleep(0.02)
        cancelled.cancel()
        ended: asyncio.Future[PendingRequest] = asyncio.get_running_loop().create_future()
        request = Request(f"http://127.0.0.1:{quick}/", b"x")
        transport.start(request, lambda pending, result: ended.set_result(pending))
        (await ended).cancel()  # has ended, so nothing happens
        responses = await asyncio.gather(*(transport.send(request) for _ in range(3)))
        assert [response.status for response in responses] == [200] * 3
    assert called == []
