"""Transfers of libcurl side by side in the event loop, with both drivers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial

import pycurl
import pytest

from relay.http import curl_multi
from relay.http.curl_multi import Multi, open_multi
from testing.raw_server import hang, keeps_answering, read_request, serving

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="one driver only, without epoll")


@pytest.fixture(params=["epoll", "the library's"])
async def multi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Multi]:
    if request.param != "epoll":
        monkeypatch.delattr("select.epoll")
    multi = open_multi()
    by_epoll = isinstance(multi, curl_multi._EpollMulti)  # noqa: SLF001 - both behave alike
    assert by_epoll == (request.param == "epoll")
    yield multi
    await multi.aclose()


def transfer(port: int, *, timeout: float = 30) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"http://127.0.0.1:{port}/")
    curl.setopt(pycurl.WRITEFUNCTION, lambda part: None)
    curl.setopt(pycurl.TIMEOUT_MS, round(timeout * 1000))
    return curl


async def perform(multi: Multi, curl: pycurl.Curl) -> None:
    """Return when a transfer has ended; it is stopped with its task. Raises pycurl.error."""
    ended: asyncio.Future[pycurl.error | None] = asyncio.get_running_loop().create_future()
    multi.start(curl, ended.set_result)
    try:
        error = await ended
    except asyncio.CancelledError:
        multi.stop(curl)
        raise
    if error is not None:
        raise error


async def test_a_handle_serves_many_requests_over_one_connection(multi: Multi) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await keeps_answering([])(reader, writer)

    async with serving(handler) as port:
        curl = transfer(port)
        for _ in range(20):
            await perform(multi, curl)
            assert curl.getinfo(pycurl.RESPONSE_CODE) == 200
    assert connections == 1


async def test_hundreds_of_transfers_run_side_by_side(multi: Multi) -> None:
    async with serving(keeps_answering([])) as port:
        for _ in range(3):
            await asyncio.gather(*(perform(multi, transfer(port)) for _ in range(100)))


async def test_a_socket_number_that_comes_back_is_watched_again(multi: Multi) -> None:
    """A connection that was closed leaves its number to the next one, which has to be watched again."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()

    async with serving(handler) as port:
        for _ in range(30):
            await perform(multi, transfer(port))
            descriptor = os.open(os.devnull, os.O_RDONLY)
            await perform(multi, transfer(port))
            os.close(descriptor)


async def test_a_socket_number_may_pass_from_one_driver_to_another(multi: Multi) -> None:
    """All drivers of an event loop share one epoll."""
    async with serving(keeps_answering([])) as port:
        for _ in range(10):
            other = open_multi()
            await asyncio.gather(*(perform(other, transfer(port)) for _ in range(5)))
            await other.aclose()
            await asyncio.gather(*(perform(multi, transfer(port)) for _ in range(5)))


async def test_a_driver_that_closes_leaves_the_transfers_of_others(multi: Multi) -> None:
    async with serving(hang) as silent, serving(keeps_answering([])) as quick:
        for _ in range(10):
            other = open_multi()
            hanging = asyncio.ensure_future(perform(other, transfer(silent)))
            await perform(multi, transfer(quick))
            running = [asyncio.ensure_future(perform(multi, transfer(quick))) for _ in range(5)]
            await asyncio.sleep(0)
            await other.aclose()
            await asyncio.gather(*running)
            with pytest.raises(pycurl.error):
                await hanging


async def test_a_timeout_ends_a_transfer(multi: Multi) -> None:
    async with serving(hang) as port:
        with pytest.raises(pycurl.error) as caught:
            await perform(multi, transfer(port, timeout=0.1))
    assert caught.value.args[0] == pycurl.E_OPERATION_TIMEDOUT


async def test_a_cancelled_transfer_ends_at_once_and_its_handle_is_reused(multi: Multi) -> None:
    here, ended = asyncio.Event(), asyncio.Event()
    first = True

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        if not first:
            await keeps_answering([])(reader, writer)
        first = False
        await read_request(reader)
        here.set()
        await reader.read()
        ended.set()

    async with serving(handler) as port:
        curl = transfer(port)
        task = asyncio.ensure_future(perform(multi, curl))
        await here.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(120):
            await ended.wait()
        await asyncio.sleep(0)  # the library's driver stops by a task
        await perform(multi, curl)
        assert curl.getinfo(pycurl.RESPONSE_CODE) == 200


async def test_a_close_ends_running_transfers(multi: Multi) -> None:
    async with serving(hang) as port:
        tasks = [asyncio.ensure_future(perform(multi, transfer(port))) for _ in range(3)]
        await asyncio.sleep(0.02)
        await multi.aclose()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        codes = [answer.args[0] for answer in answers if isinstance(answer, pycurl.error)]
        assert codes == [pycurl.E_ABORTED_BY_CALLBACK] * 3


async def test_a_transfer_may_stop_another_that_ends_with_it(multi: Multi) -> None:
    async with serving(keeps_answering([])) as port:
        curls = [transfer(port) for _ in range(10)]
        told = []
        done = asyncio.Event()

        def stop_the_others(number: int, error: pycurl.error | None) -> None:
            told.append(number)
            for curl in curls:
                multi.stop(curl)
            done.set()

        for number, curl in enumerate(curls):
            multi.start(curl, partial(stop_the_others, number))
        await done.wait()
        await perform(multi, transfer(port))
        assert len(told) == 1


async def test_a_call_that_fails_takes_no_other_with_it(
    multi: Multi, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(keeps_answering([])) as port:
        broken = asyncio.Event()

        def fail(error: pycurl.error | None) -> None:
            broken.set()
            raise ZeroDivisionError

        for _ in range(3):
            multi.start(transfer(port), fail)
        await asyncio.gather(*(perform(multi, transfer(port)) for _ in range(10)))
        await broken.wait()
    assert "ZeroDivisionError" in caplog.text


async def test_a_timeout_is_kept_while_other_transfers_begin_and_are_cancelled(multi: Multi) -> None:
    """The library sets its timer once, even if another call is due immediately."""
    async with serving(hang) as slow, serving(keeps_answering([])) as quick:
        waiting = [asyncio.ensure_future(perform(multi, transfer(slow, timeout=0.3))) for _ in range(5)]
        for _ in range(20):
            begun = [asyncio.ensure_future(perform(multi, transfer(quick))) for _ in range(3)]
            await asyncio.sleep(0)
            begun[0].cancel()
            await asyncio.gather(*begun, return_exceptions=True)
        async with asyncio.timeout(120):
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        codes = [answer.args[0] for answer in answers if isinstance(answer, pycurl.error)]
        assert codes == [pycurl.E_OPERATION_TIMEDOUT] * 5
