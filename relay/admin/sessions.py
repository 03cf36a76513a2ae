"""Signed session cookies. The server keeps no sessions: any process of the fleet accepts a cookie.
`log_outs` ends them.

The key of a signature is derived from the token of the role. A viewer can learn nothing about the operators'
token from a cookie, and a new token ends the sessions of the old one.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

COOKIE = "relay_session"

LIFETIME = 12 * 3600
"""The lifetime of a session, in seconds."""

MOST_ENDED = 10_000
"""Sessions that were ended by a log-out and are remembered until they would have ended anyway."""


class Role(StrEnum):
    """The rights of a visitor."""

    VIEWER = "viewer"
    """May read everything."""
    OPERATOR = "operator"
    """May do everything."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that a cookie proves."""

    role: Role
    identity: str
    """Random and unique."""
    until: int
    """Unix seconds."""


class Sessions:
    """Signs and checks cookies."""

    def __init__(self, tokens: Mapping[Role, str], clock: Callable[[], float] = time.time) -> None:
        self._keys = {
            role: hmac.digest(token.encode(), b"relay console session", "sha256")
            for role, token in tokens.items()
            if token
        }
        self._clock = clock
        self._ended: OrderedDict[str, int] = OrderedDict()

    def start(self, role: Role) -> str:
        """Return the cookie of a new session."""
        content = f"{role}.{secrets.token_urlsafe(16)}.{int(self._clock()) + LIFETIME}"
        return f"{content}.{self._signature(role, content)}"

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it is forged, over or was ended."""
        content, _, signature = cookie.rpartition(".")
        role, _, rest = content.partition(".")
        identity, _, until = rest.partition(".")
        if role not in self._keys:
            return None
        if not hmac.compare_digest(_bytes(self._signature(Role(role), content)), _bytes(signature)):
            return None
        session = Session(Role(role), identity, int(until))
        if session.until <= self._clock() or identity in self._ended:
            return None
        return session

    def end(self, session: Session) -> None:
        """Refuse this session from now on, in this process."""
        self._ended[session.identity] = session.until
        now = self._clock()
        while self._ended and (len(self._ended) > MOST_ENDED or next(iter(self._ended.values())) <= now):
            self._ended.popitem(last=False)

    def _signature(self, role: Role, content: str) -> str:
        return hmac.new(self._keys[role], _bytes(content), sha256).hexdigest()


def _bytes(text: str) -> bytes:
    """Return a client's text, which may be invalid UTF-8, as bytes."""
    return text.encode("utf-8", "surrogateescape")
