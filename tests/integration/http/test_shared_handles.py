"""Providers with equal options share the easy handles of libcurl, but nothing that a request brings."""

from __future__ import annotations

import asyncio

import pytest

from relay.http.curl_handle import CurlHandle
from relay.http.handle_pool import HandlePool
from relay.http.transport import PendingRequest, Transport
from relay.provider import Request, Response
from testing.raw_server import keeps_answering, says, serving
from tests.integration.http.conftest import Opener


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[CurlHandle]:
    """The handles that are created during a test."""
    handles: list[CurlHandle] = []
    create = CurlHandle.__init__

    def init(self: CurlHandle, *arguments: object) -> None:
        handles.append(self)
        create(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(CurlHandle, "__init__", init)
    return handles


async def post(transport: Transport, port: int, path: str = "/", **more: str) -> Response:
    return await transport.send(Request(f"http://{more.get('user', '')}127.0.0.1:{port}{path}", b"x"))


async def test_providers_with_equal_options_take_turns_with_one_handle(
    opened: Opener, created: list[CurlHandle]
) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as one, opened() as two:
        for number in range(3):
            await post(one, port, f"/one/{number}")
            await post(two, port, f"/two/{number}")
    assert len(created) == 1
    assert [each.split(b" ")[1] for each in seen] == [
        *(b"/one/0", b"/two/0", b"/one/1", b"/two/1", b"/one/2", b"/two/2")
    ]


async def test_providers_with_other_options_share_no_handles(
    opened: Opener, created: list[CurlHandle]
) -> None:
    async with (
        serving(keeps_answering([])) as port,
        opened(timeout=10) as one,
        opened(timeout=20) as two,
        opened(timeout=20, addresses=["far.example:80:127.0.0.1"]) as three,
    ):
        for transport in (one, two, three):
            await post(transport, port)
    assert len(created) == 3


async def test_providers_that_share_handles_share_no_connections(opened: Opener) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await keeps_answering([])(reader, writer)

    async with serving(handler) as port, opened() as one, opened() as two:
        for transport in (one, two, one, two):
            await post(transport, port)
    assert connections == 2


async def test_a_request_that_has_ended_cannot_cancel_that_of_another_provider(
    opened: Opener, created: list[CurlHandle]
) -> None:
    async with serving(keeps_answering([])) as port, opened() as one, opened() as two:
        ended: asyncio.Future[PendingRequest] = asyncio.get_running_loop().create_future()
        request = Request(f"http://127.0.0.1:{port}/", b"x")
        one.start(request, lambda pending, result: ended.set_result(pending))
        earlier = await ended
        later = asyncio.create_task(two.send(request))
        await asyncio.sleep(0)
        earlier.cancel()
        assert (await later).status == 200
    assert len(created) == 1


async def test_credentials_of_a_url_stay_with_their_request(
    opened: Opener, created: list[CurlHandle]
) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as one, opened() as two:
        await post(one, port, user="me:word@")
        await post(two, port)
    assert len(created) == 1
    assert [b"authorization: " in each.lower() for each in seen] == [True, False]


async def test_a_handle_whose_request_failed_is_not_used_again(
    opened: Opener, created: list[CurlHandle]
) -> None:
    async with serving(says(b"")) as bad, serving(keeps_answering([])) as good, opened() as one:
        with pytest.raises(Exception, match="closed the connection"):
            await post(one, bad)
        await post(one, good)
    assert len(created) == 2


def test_a_provider_that_closes_its_connections_gives_up_its_share_of_idle_handles() -> None:
    number = 0

    def create() -> CurlHandle:
        nonlocal number
        number += 1
        return CurlHandle({})

    def taken(count: int) -> int:
        """Return how many handles are created for so many requests at once."""
        before, handles = number, [pool.take() for _ in range(count)]
        for handle in handles:
            pool.put_back(handle)
        return number - before

    pool = HandlePool.join("options of this test", create)
    assert HandlePool.join("options of this test", create) is pool
    assert (taken(4), taken(4)) == (4, 0)
    pool.leave()
    assert taken(4) == 2
    pool.leave()
    new = HandlePool.join("options of this test", create)
    assert new is not pool
    new.leave()
