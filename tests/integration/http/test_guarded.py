"""The guard at work: the servers that a `public_only` request reaches, by all kinds of URLs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import TransportError
from relay.http import ForbiddenAddress, Transport, open_transport
from relay.http.curl_transport import CurlTransport
from relay.http.guard import Network
from relay.provider import Request
from testing.builders import options
from testing.raw_server import closed_port, keeps_answering, says, serving
from tests.integration.http.conftest import LOOPBACK, failure_of, linking, opening

SPELLINGS = [
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.0.0.01",
    "127.000.000.001",
    "0",
    "0.0.0.0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[::1%25lo]",
    "[::1%lo]",
    "[fe80::1%25lo]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.localdomain",
    "ｌｏｃａｌｈｏｓｔ",
    "１２７.０.０.１",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "%6cocalhost",
    "%31%32%37.0.0.1",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
    "example.com:80@127.0.0.1",
    "example.com%40127.0.0.1",
    "127.0.0.1%2f.example.com",
    "127.0.0.1\\.example.com",
    "127.0.0.1#.example.com",
    "127.0.0.1?.example.com",
    "127.0.0.1;.example.com",
    "127.0.0.1%00.example.com",
    "169.254.169.254",
    "2852039166",
    "[fd00:ec2::254]",
    "100.100.100.200",
]


class Reached:
    """A server on all loopback addresses that only records connections."""

    def __init__(self) -> None:
        self._sockets = [socket.create_server(("0.0.0.0", 0))]
        self.port: int = self._sockets[0].getsockname()[1]
        with suppress(OSError):
            self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))

    def by_anybody(self) -> bool:
        for listening in self._sockets:
            listening.setblocking(False)
            with suppress(BlockingIOError):
                listening.accept()[0].close()
                return True
        return False

    def close(self) -> None:
        for listening in self._sockets:
            listening.close()


@pytest.fixture(scope="module")
def reached() -> Iterator[Reached]:
    server = Reached()
    yield server
    server.close()


async def ask(*urls: str) -> list[BaseException]:
    """The errors of requests to URLs of messages that must not arrive."""
    transport = CurlTransport(timeout=0.5, concurrency=50, allowed=())
    requests = (transport.send(Request(url, b"x", public_only=True)) for url in urls)
    ends = await asyncio.gather(*requests, return_exceptions=True)
    await transport.close()
    assert all(isinstance(end, TransportError) for end in ends), ends
    return [end for end in ends if isinstance(end, BaseException)]


async def test_no_spelling_of_a_host_leads_past_the_guard(reached: Reached) -> None:
    await ask(*(f"http://{spelling}:{reached.port}/" for spelling in SPELLINGS))
    assert not reached.by_anybody()


def _written(address: IPv4Address, form: str) -> str:
    first, *rest = str(address).split(".")
    number = int(address)
    match form:
        case "decimal":
            return str(number)
        case "hexadecimal":
            return hex(number)
        case "octal":
            return f"0{number:o}"
        case "parts":
            return ".".join(hex(int(part)) for part in (first, *rest))
        case "two parts":
            return f"{first}.{number & 0xFFFFFF}"
        case "mapped":
            return f"[::ffff:{address}]"
        case "full width":
            return str(address).translate({ord("0") + digit: ord("０") + digit for digit in range(10)})
        case "stops":
            return str(address).replace(".", "。")
    return f"{address}."


@settings(deadline=None, max_examples=60)
@given(
    address=st.sampled_from(["127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "0.0.0.0/32"])
    .map(IPv4Network)
    .flatmap(lambda network: st.ip_addresses(v=4, network=network)),
    form=st.sampled_from(
        ["decimal", "hexadecimal", "octal", "parts", "two parts", "mapped", "full width", "stops", "trailing"]
    ),
)
def test_no_private_address_is_reached_however_it_is_written(
    reached: Reached, address: IPv4Address, form: str
) -> None:
    asyncio.run(ask(f"http://{_written(address, form)}:{reached.port}/"))
    assert not reached.by_anybody()


def opened(
    allowed: Sequence[Network] = (), addresses: Sequence[str] = ()
) -> AbstractAsyncContextManager[Transport]:
    return opening(CurlTransport, allowed=allowed, addresses=addresses)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "http://[::1]:{}/",
        "http://[::ffff:127.0.0.1]:{}/",
        "http://0.0.0.0:{}/",
        "http://[::]:{}/",
        "http://localhost:{}/",
        "http://LOCALHOST:{}/",
        "http://0x7f000001:{}/",
        "http://①②⑦.⓪.⓪.①:{}/",
    ],
)
async def test_a_public_request_does_not_reach_this_host(url: str) -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port, opened() as transport:
        with pytest.raises(TransportError) as caught:
            await transport.send(Request(url.format(port), b"x", public_only=True))
    assert not seen
    if "0x" not in url:  # some resolvers know this form, and some do not
        assert isinstance(caught.value, ForbiddenAddress)


async def test_an_address_in_short_form_is_judged_by_its_meaning() -> None:
    async with opened() as transport:
        with pytest.raises(ForbiddenAddress, match=r"127\.0\.0\.1 is a loopback address"):
            await transport.send(Request("http://127.1/"))


@pytest.mark.parametrize(
    "addresses", ["127.0.0.1", "127.0.0.1,10.0.0.1", "127.0.0.1,[::1]", "[::1],[fe80::1],169.254.169.254"]
)
async def test_a_name_that_leads_to_private_addresses_is_forbidden(addresses: str) -> None:
    async with opened(addresses=[f"evil.example:1:{addresses}"]) as transport:
        with pytest.raises(
            ForbiddenAddress, match=r"^evil\.example:1: .* is a loopback address; `allow_private`"
        ):
            await transport.send(Request("http://evil.example:1/"))


async def test_a_name_that_leads_to_both_is_reached_at_its_public_address_only() -> None:
    seen: list[bytes] = []
    async with serving(keeps_answering(seen)) as port:
        # The loopback address, allowed here, stands for a public one.
        addresses = [f"both.example:{port}:10.255.255.1,127.0.0.1"]
        async with opened(LOOPBACK, addresses) as transport:
            response = await transport.send(Request(f"http://both.example:{port}/"))
    assert response.status == 200
    assert len(seen) == 1


async def test_a_name_without_a_listener_at_its_public_address_is_not_forbidden() -> None:
    with closed_port() as port:
        async with opened(LOOPBACK, [f"both.example:{port}:10.255.255.1,127.0.0.1"]) as transport:
            assert "connection refused" in await failure_of(transport, f"http://both.example:{port}/")


async def test_a_name_with_thousands_of_addresses_is_refused_at_once() -> None:
    many = ",".join(f"10.8.{number // 256}.{number % 256}" for number in range(4000))
    async with opened(addresses=[f"many.example:443:{many}"]) as transport:
        with pytest.raises(ForbiddenAddress, match=r"10\.8\.0\.0 is a private address"):
            await transport.send(Request("http://many.example:443/"))


async def test_an_address_is_checked_again_at_each_new_connection() -> None:
    async with serving(says(b"HTTP/1.0 200 OK\r\n\r\n")) as port:
        addresses = [f"one.example:{port}:127.0.0.1", f"two.example:{port}:10.0.0.1"]
        async with opened(LOOPBACK, addresses) as transport:
            await transport.send(Request(f"http://one.example:{port}/"))
            with pytest.raises(ForbiddenAddress, match=r"10\.0\.0\.1 is a private address"):
                await transport.send(Request(f"http://two.example:{port}/"))
            assert (await transport.send(Request(f"http://one.example:{port}/"))).status == 200


async def test_a_connection_that_was_opened_unguarded_serves_no_guarded_request() -> None:
    """Not even for an adapter without HTTP options."""
    seen: list[bytes] = []
    opened = partial(opening, lambda **fields: open_transport(options(**fields)))
    async with linking(opened, keeps_answering(seen), concurrency=1) as link:
        await link.post()
        with pytest.raises(ForbiddenAddress):
            await link.transport.send(Request(link.url, public_only=True))
    assert len(seen) == 1
