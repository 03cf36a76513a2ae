"""The client of a request, behind reverse proxies too: its address, name and URL.

Anybody can send `X-Forwarded-*` headers, so they count only if the connection comes from a trusted proxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from aiohttp import web

from relay.settings.models import AdminSettings
from relay.text import one_line

LONGEST_USER = 100
"""Characters of a user's name."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The client that made a request, as far as it is known."""

    address: str
    host: str
    """The host and port in the URL that the client used."""
    scheme: str = "http"
    user: str = ""
    """The name that a trusted proxy sends in `admin.user_header`."""


class Proxies:
    """The proxies of `admin.trusted_proxies`."""

    def __init__(self, settings: AdminSettings) -> None:
        self._networks = [ip_network(network) for network in settings.trusted_proxies]
        self._user_header = settings.user_header

    def peer(self, request: web.Request) -> Peer:
        """Return the client of a request."""
        address = request.remote or ""
        if not self._trusts(address):
            return Peer(address, request.host)
        headers = request.headers
        return Peer(
            self._client(address, headers.getall("X-Forwarded-For", ())),
            _last(headers.get("X-Forwarded-Host", "")) or request.host,
            "https" if _last(headers.get("X-Forwarded-Proto", "")).lower() == "https" else "http",
            one_line(headers.get(self._user_header, ""), LONGEST_USER) if self._user_header else "",
        )

    def _trusts(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._networks)

    def _client(self, address: str, forwarded: Sequence[str]) -> str:
        """Return the last address that no trusted proxy has: earlier ones may be invented."""
        hops = [hop.strip() for header in forwarded for hop in header.split(",") if hop.strip()]
        for hop in reversed(hops):
            address = hop
            if not self._trusts(hop):
                break
        return address[:64]


def _last(values: str) -> str:
    """Return the value that the nearest proxy added."""
    return values.rpartition(",")[2].strip()
