"""The guard's table: which addresses the URL of a message may reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.http.guard import refusal

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
def test_no_embedding_is_laxer_than_the_embedded_address(address: IPv4Address) -> None:
    number = int(address)
    for carrier in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert bool(refusal(str(IPv6Address(carrier)))) == bool(refusal(str(address)))


@given(st.ip_addresses())
def test_an_address_that_is_not_global_is_refused(address: IPv4Address | IPv6Address) -> None:
    embedded = isinstance(address, IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address.teredo
    )
    # An address that contains another one is judged by that one.
    if not address.is_global and not embedded:
        assert refusal(str(address))


@given(st.ip_addresses(), st.lists(st.ip_addresses(v=4).map(lambda a: IPv4Network((a, 24), strict=False))))
def test_an_allowed_network_never_closes_anything(
    address: IPv4Address | IPv6Address, allowed: list[IPv4Network]
) -> None:
    if refusal(str(address)) is None:
        assert refusal(str(address), allowed) is None
    elif isinstance(address, IPv4Address):
        assert (refusal(str(address), allowed) is None) == any(address in network for network in allowed)
