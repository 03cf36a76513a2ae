"""Which addresses a message's URL may reach."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import TransportError
from relay.http.aiohttp_transport import AiohttpTransport
from relay.http.guard import refusal
from relay.http.guarded import GuardedResolver
from relay.provider import Request

REFUSED = [
    ("0.0.0.0", "the unspecified address"),
    ("0.1.2.3", "an address of this network"),
    ("10.0.0.1", "a private address"),
    ("100.64.0.1", "a shared (CGNAT) address"),
    ("100.100.100.200", "a shared (CGNAT) address"),  # Alibaba's metadata
    ("127.0.0.1", "a loopback address"),
    ("127.255.255.254", "a loopback address"),
    ("168.63.129.16", "a metadata address (Azure)"),
    ("169.254.169.254", "a link-local address"),  # everyone's metadata
    ("172.16.0.1", "a private address"),
    ("172.31.255.255", "a private address"),
    ("192.0.0.192", "a reserved address"),  # Oracle's metadata
    ("192.0.2.1", "a documentation address"),
    ("192.88.99.1", "a relay anycast address"),
    ("192.168.1.1", "a private address"),
    ("198.18.0.1", "a benchmarking address"),
    ("198.51.100.1", "a documentation address"),
    ("203.0.113.1", "a documentation address"),
    ("224.0.0.1", "a multicast address"),
    ("239.255.255.250", "a multicast address"),
    ("240.0.0.1", "a broadcast or reserved address"),
    ("255.255.255.255", "a broadcast or reserved address"),
    ("::", "the unspecified address"),
    ("::1", "a loopback address"),
    ("::7f00:1", "a reserved address"),  # IPv4-compatible, long gone
    ("::ffff:0:7f00:1", "a reserved address"),  # IPv4-translated
    ("100::1", "a reserved address"),
    ("2001:20::1", "a reserved address"),
    ("2001:db8::1", "a documentation address"),
    ("3fff::1", "a documentation address"),
    ("4000::1", "a reserved address"),
    ("5f00::1", "a reserved address"),
    ("fc00::1", "a private address"),
    ("fd00:ec2::254", "a private address"),  # Amazon's metadata
    ("fe80::1", "a link-local address"),
    ("fe80::1%eth0", "a link-local address"),
    ("fec0::1", "a site-local address"),
    ("ff02::1", "a multicast address"),
    ("::ffff:127.0.0.1", "a loopback address (it leads to 127.0.0.1)"),
    ("::ffff:169.254.169.254", "a link-local address (it leads to 169.254.169.254)"),
    ("64:ff9b::10.0.0.1", "a private address (it leads to 10.0.0.1)"),
    ("64:ff9b:1::8.8.8.8", "a local NAT64 address"),
    ("64:ff9b:1:a00:1:100:808:808", "a local NAT64 address"),  # 10.0.0.1 by a prefix of /48
    ("2002:7f00:1::1", "a loopback address (it leads to 127.0.0.1)"),
    ("2002:a9fe:a9fe::", "a link-local address (it leads to 169.254.169.254)"),
    ("2001:0:a00:1:0:0:f7f7:f7f7", "a private address (it leads to 10.0.0.1)"),  # Teredo's server
    ("2001:4860::5efe:7f00:1", "a loopback address (it leads to 127.0.0.1)"),  # ISATAP
    ("2001:4860::200:5efe:a9fe:a9fe", "a link-local address (it leads to 169.254.169.254)"),
    ("fd00::5efe:808:808", "a private address"),
    ("2001:0:808:808:0:0:80ff:fffe", "a loopback address (it leads to 127.0.0.1)"),  # Teredo's client
]

REACHED = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]


@pytest.mark.parametrize(("address", "kind"), REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str, kind: str) -> None:
    why = refusal(address)
    assert why is not None
    assert why.endswith(f" is {kind}")


@pytest.mark.parametrize("address", REACHED)
def test_a_public_address_is_reached(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("::1", "::1/128"),
        ("fd12::1", "fd00::/8"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
        ("64:ff9b:1::8.8.8.8", "64:ff9b:1::/48"),
    ],
)
def test_an_allowed_network_is_reached(address: str, network: str) -> None:
    assert refusal(address, [ip_network(network)]) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "192.168.0.0/16"),
        ("::1", "0.0.0.0/0"),
        ("::ffff:127.0.0.1", "10.0.0.0/8"),
        # Teredo: an allowed server must not open the way to any client behind it.
        ("2001:0:a00:1:0:0:80ff:fffe", "10.0.0.0/8"),
    ],
)
def test_an_allowed_network_opens_nothing_else(address: str, network: str) -> None:
    assert refusal(address, [ip_network(network)])


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_embedding_is_laxer_than_the_address_that_it_carries(address: IPv4Address) -> None:
    number = int(address)
    for carrier in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert bool(refusal(str(IPv6Address(carrier)))) == bool(refusal(str(address)))


@given(st.ip_addresses())
def test_whatever_the_standard_library_calls_not_global_is_refused(
    address: IPv4Address | IPv6Address,
) -> None:
    embedded = isinstance(address, IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address.teredo
    )
    # What carries another address is judged by that one.
    if not address.is_global and not embedded:
        assert refusal(str(address))


# Hosts as people, and attackers, write them

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
    """A server on all loopback addresses that only says whether anybody came."""

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
    """How requests to URLs of messages end that must not arrive."""
    # Nothing here is asked over TLS; the system's authorities take long to load.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    transport = AiohttpTransport(timeout=0.5, concurrency=50, context=context)
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


@given(st.ip_addresses(), st.lists(st.ip_addresses(v=4).map(lambda a: IPv4Network((a, 24), strict=False))))
def test_an_allowed_network_never_closes_anything(
    address: IPv4Address | IPv6Address, allowed: list[IPv4Network]
) -> None:
    if refusal(str(address)) is None:
        assert refusal(str(address), allowed) is None
    elif isinstance(address, IPv4Address):
        assert (refusal(str(address), allowed) is None) == any(address in network for network in allowed)


async def test_a_name_with_thousands_of_addresses_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def many(*arguments: object, **keywords: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"8.8.{n // 256}.{n % 256}", 443))
            for n in range(4000)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", many)
    found = await GuardedResolver(()).resolve("many.example", 443)
    assert len(found) == 64
