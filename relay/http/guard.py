"""The guard: the addresses that a URL of a message may reach (public ones, and allowed networks).

Pure. Source of the table: the IANA special-purpose address registries (RFC 6890 and its updates). They are
copied here because the standard library's table differs between versions of Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _table(rows: Iterable[tuple[str, str]]) -> tuple[tuple[Network, str], ...]:
    return tuple((ip_network(network), kind) for network, kind in rows)


_REFUSED_4 = _table(
    (
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a shared (CGNAT) address"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a metadata address (Azure)"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),  # 192.0.0.192 is Oracle's metadata service
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a relay anycast address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a broadcast or reserved address"),
    )
)
_REFUSED_6 = _table(
    (
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        # It may contain an IPv4 address at several places (RFC 8215), so the address cannot be judged.
        ("64:ff9b:1::/48", "a local NAT64 address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a documentation address"),
        ("3fff::/20", "a documentation address"),
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
"""The only unicast space that IANA has allocated. Everything else is reserved."""

_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = 0x00005EFE
"""The 32 bits before the IPv4 address of a tunnel (RFC 5214, 6.1), without the universal/local bit."""


def refusal(host: str, allowed: Sequence[Network] = ()) -> str | None:
    """Return why an address (as text, possibly with a zone index) may not be reached; None if it may.

    Private, loopback, link-local (cloud metadata), CGNAT, multicast, reserved and unspecified addresses are
    refused. An IPv6 address that contains IPv4 addresses (mapped, NAT64, 6to4, Teredo, ISATAP) is refused if
    one of them is. Raises ValueError if `host` is not an address.
    """
    address = ip_address(host.partition("%")[0])
    if _within(address, allowed):
        return None
    for candidate in _embedded(address) or (address,):
        kind = None if _within(candidate, allowed) else _kind(candidate)
        if kind is not None:
            inside = "" if candidate == address else f" (it leads to {candidate})"
            return f"{address} is {kind}{inside}"
    return None


def _within(address: Address, allowed: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in allowed)


def _embedded(address: Address) -> tuple[Address, ...]:
    """Return the IPv4 addresses that an IPv6 address contains, because its traffic may end there."""
    if isinstance(address, IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if int(address) >> 32 & 0xFDFFFFFF == _ISATAP:
        return (address, IPv4Address(int(address) & 0xFFFFFFFF))
    return ()


def _kind(address: Address) -> str | None:
    for network, kind in _REFUSED_4 if isinstance(address, IPv4Address) else _REFUSED_6:
        if address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _GLOBAL_6:
        return "a reserved address"
    return None
