"""A process without a free descriptor: its own trouble, which neither message nor provider pays for."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pycurl
import pytest

from relay.engine.adapter_calls import AdapterCalls
from relay.errors import Exhausted
from relay.http.curl_errors import Failure, explain
from relay.outcome import Delivered, Outcome, Postponed
from relay.provider import HttpProvider, Request, Response
from relay.settings.options import ProviderOptions
from testing.builders import a_message
from testing.raw_server import keeps_answering, serving
from tests.integration.http.conftest import Opener


class Posts(HttpProvider[ProviderOptions]):
    url = ""

    def request(self, batch: object) -> Request:
        return Request(self.url)

    def outcomes(self, batch: Sequence[object], response: Response) -> Sequence[Outcome]:
        return [Delivered()] * len(batch)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    opened: list[int] = []
    try:
        try:
            while True:
                opened.append(os.dup(0))
        except OSError:
            yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_request_without_a_free_descriptor_is_postponed_and_goes_out_later(opened: Opener) -> None:
    provider = Posts("posts", ProviderOptions(type="posts"))
    async with serving(keeps_answering([])) as port, opened() as transport:
        provider.url = f"http://127.0.0.1:{port}/"
        await provider.start(transport)
        delivery = AdapterCalls(provider)

        async def delivered() -> Outcome:
            ended: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
            delivery.start([a_message()], lambda outcomes, *_: ended.set_result(outcomes))
            return (await ended)[0]

        with no_descriptors():
            assert isinstance(await delivered(), Postponed)
        assert isinstance(await delivered(), Delivered)
        await delivery.close()


def test_a_driver_that_cannot_begin_is_an_exhausted_process() -> None:
    with no_descriptors(), pytest.raises(pycurl.error) as raised:
        pycurl.CurlMulti()
    failure = Failure.of(raised.value, pycurl.Curl(), answering=False)
    error = explain(failure, "http://127.0.0.1/", timeout=1, proxied=False)
    assert isinstance(error, Exhausted)
    assert "initializing curl-multi failed" in str(error)


async def test_a_transport_that_cannot_open_its_driver_says_that_the_process_is_exhausted(
    opened: Opener,
) -> None:
    """Descriptors may be free again when the adapter's error is examined."""
    async with serving(keeps_answering([])) as port, opened() as transport:
        request = Request(f"http://127.0.0.1:{port}/")
        with no_descriptors(), pytest.raises(Exhausted, match="initializing curl-multi failed"):
            transport.start(request, lambda *_: None)
        assert (await transport.send(request)).status == 200
