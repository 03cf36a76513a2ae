"""Which addresses a URL that came with a message may reach: public ones, and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_REFUSED: tuple[tuple[str, Network], ...] = (
    ("a shared (CGNAT) address", IPv4Network("100.64.0.0/10")),
    ("a broadcast or reserved address", IPv4Network("240.0.0.0/4")),
    ("a relay anycast address", IPv4Network("192.88.99.0/24")),
    ("a site-local address", IPv6Network("fec0::/10")),
    ("a discard-only address", IPv6Network("100::/64")),
)


def refusal(host: str, allowed: Sequence[Network] = ()) -> str | None:
    """Why an address (as text, a zone index allowed) may not be reached; None if it may.

    Private, loopback, link-local (cloud metadata is there), CGNAT, multicast, reserved and unspecified
    addresses are refused, also where IPv4 is embedded in IPv6: mapped, NAT64, 6to4 and Teredo.
    """
    address = ip_address(host.partition("%")[0])
    embedded = _embedded(address)
    for candidate in (address, *embedded):
        if any(candidate.version == network.version and candidate in network for network in allowed):
            return None
    for candidate in (address, *embedded):
        kind = _kind(candidate)
        if kind is not None:
            inside = "" if candidate == address else f" (it leads to {candidate})"
            return f"{address} is {kind}{inside}"
    return None


def networks(values: Sequence[str]) -> tuple[Network, ...]:
    """Networks from CIDR texts. Raises ValueError with the text that is none."""
    return tuple(ip_network(value) for value in values)


def _embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that traffic to an IPv6 address can end at."""
    if isinstance(address, IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if any(address in network for network in _NAT64):
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def _kind(address: Address) -> str | None:
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified:
        return "the unspecified address"
    for kind, network in _REFUSED:
        if address.version == network.version and address in network:
            return kind
    # What carries an IPv4 address is judged by that address.
    carries = isinstance(address, IPv6Address) and bool(_embedded(address))
    if not carries and not address.is_global:
        return "a private address"
    if not carries and address.is_reserved:
        return "a reserved address"
    return None
