"""Access to the admin port: identifies the visitor, and admits or refuses the request.

With a token, visitors prove themselves with a bearer token (programs) or a session cookie (browsers). Without
one, requests must use a name of this host: a page can reach a server on loopback by a name that was bound to
127.0.0.1 (DNS rebinding), which shows in the Host header.

A page of another origin can send requests although it cannot read their answers. Requests that change
something must therefore prove their origin, unless they bring a bearer token, which no page has.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from aiohttp import web

from relay.admin.access import is_local
from relay.admin.attempts import Attempts
from relay.admin.proxies import Peer, Proxies
from relay.admin.sessions import COOKIE, Role, Session, Sessions
from relay.settings.models import AdminSettings
from relay.settings.values import Secret

READS = frozenset({"GET", "HEAD", "OPTIONS"})

Proof = Literal["none", "bearer", "session"]


@dataclass(frozen=True, slots=True)
class Visitor:
    """An admitted client."""

    role: Role
    proof: Proof
    peer: Peer
    session: Session | None = None

    @property
    def may_act(self) -> bool:
        return self.role is Role.OPERATOR

    @property
    def name(self) -> str:
        """The name for the audit log: that of the proxy's user, or the address."""
        kind = "api" if self.proof == "bearer" else "console"
        return f"{self.peer.user} ({kind})" if self.peer.user else f"{kind}@{self.peer.address}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a request is not admitted, as an HTTP status and a line."""

    status: int
    text: str
    retry_after: float = 0.0


NOBODY = Refusal(401, "send `Authorization: Bearer TOKEN` with the token")
FOREIGN_HOST = Refusal(421, "use 127.0.0.1 or localhost in the URL, or set a token")
FOREIGN_ORIGIN = Refusal(403, "refused: the request does not come from a page of this console")
VIEWER = Refusal(403, "refused: viewers may not change anything; log in with the operators' token")


class Gate:
    """Admits visitors of one admin port."""

    def __init__(self, settings: AdminSettings, attempts: Attempts | None = None) -> None:
        self._tokens = {
            Role.OPERATOR: _text(settings.token),
            Role.VIEWER: _text(settings.viewer_token),
        }
        self._proxies = Proxies(settings)
        self._attempts = attempts or Attempts()
        self.sessions = Sessions(self._tokens)

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return not self._tokens[Role.OPERATOR]

    def peer(self, request: web.Request) -> Peer:
        """Return the client of a request."""
        return self._proxies.peer(request)

    def admit(self, request: web.Request) -> Visitor | Refusal:
        """Return the visitor who makes a request, or the reason why nobody known does."""
        peer = self.peer(request)
        if self.is_open:
            return Visitor(Role.OPERATOR, "none", peer) if is_local(peer.host) else FOREIGN_HOST
        if "Authorization" in request.headers:
            scheme, _, token = request.headers["Authorization"].partition(" ")
            role = self.check(token.strip() if scheme.lower() == "bearer" else "", peer)
            return role if isinstance(role, Refusal) else Visitor(role, "bearer", peer)
        session = self.sessions.find(request.cookies.get(COOKIE, ""))
        return Visitor(session.role, "session", peer, session) if session else NOBODY

    def check(self, token: str, peer: Peer) -> Role | Refusal:
        """Return the role of a token. An address that tried too many wrong ones has to wait."""
        wait = self._attempts.wait(peer.address)
        if wait:
            return Refusal(429, f"too many wrong tokens: try again in {wait:.0f} s", wait)
        # A client's text may be invalid UTF-8. All tokens are compared, so that the time reveals nothing.
        given = token.encode("utf-8", "surrogateescape")
        matches = [
            role
            for role, known in self._tokens.items()
            if hmac.compare_digest(given, known.encode()) and known
        ]
        if not matches:
            self._attempts.failed(peer.address)
            return NOBODY
        self._attempts.succeeded(peer.address)
        return matches[0]


def refuse_change(request: web.Request, visitor: Visitor) -> Refusal | None:
    """Return the reason why a visitor's request may not change anything; None if it may."""
    if not comes_from_here(request, visitor.peer, program=visitor.proof == "bearer"):
        return FOREIGN_ORIGIN
    return None if visitor.may_act else VIEWER


def comes_from_here(request: web.Request, peer: Peer, *, program: bool) -> bool:
    """Return whether a request comes from a page of this server. A `program` may send neither header."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site.lower() == "same-origin" or (program and site.lower() == "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return program
    try:
        return urlsplit(origin).netloc.lower() == peer.host.lower()
    except ValueError:
        return False


def _text(token: Secret | None) -> str:
    return token.get_secret_value() if token else ""
