"""APNs' provider tokens.

Source:
https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from relay.sandbox import jws
from relay.sandbox.apns_rules import Wrong
from relay.sandbox.exchange import Call

OLDEST = 3600
"""Seconds that a token may be old, or its time of issue in the future."""

BETWEEN_UPDATES = 1200
"""Seconds for which a connection must keep a token that it has changed to."""

CONNECTIONS = 10_000
"""Connections whose tokens are remembered."""


class TokenCheck:
    """Checks the sender of a request: its provider token, or its certificate."""

    def __init__(
        self, key: EllipticCurvePublicKey, key_id: str, team_id: str, clock: Callable[[], float]
    ) -> None:
        self._key, self._key_id, self._team_id, self._clock = key, key_id, team_id, clock
        self._issued: OrderedDict[str, int] = OrderedDict()
        self._tokens: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def check(self, call: Call) -> None:
        """Raise Wrong unless the sender may push."""
        given = call.headers.get("authorization")
        if given is None:
            if not call.certified:
                raise Wrong(403, "MissingProviderToken")
            return
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer":
            raise Wrong(403, "InvalidProviderToken")
        age = self._clock() - self._issued_at(token)
        if age > OLDEST:
            raise Wrong(403, "ExpiredProviderToken")
        if age < -OLDEST:
            raise Wrong(403, "InvalidProviderToken")
        self._check_updates(call.connection, token)

    def _issued_at(self, token: str) -> int:
        # A token comes with many requests, so its signature is verified once.
        if token not in self._issued:
            try:
                issued = issued_at(token, self._key, self._key_id, self._team_id)
            except jws.InvalidToken as error:
                raise Wrong(403, "InvalidProviderToken") from error
            _remember(self._issued, token, issued)
        return self._issued[token]

    def _check_updates(self, connection: int, token: str) -> None:
        """Limit the updates of a connection's token. The first token is not an update."""
        now = self._clock()
        known = self._tokens.get(connection)
        if known is None:
            _remember(self._tokens, connection, (token, -1.0))
        elif known[0] != token:
            if known[1] >= 0 and now - known[1] < BETWEEN_UPDATES:
                raise Wrong(429, "TooManyProviderTokenUpdates")
            _remember(self._tokens, connection, (token, now))


def issued_at(token: str, key: EllipticCurvePublicKey, key_id: str, team_id: str) -> int:
    """Return the time of issue in Unix seconds. Raises jws.InvalidToken unless key and team are these."""
    found = jws.read(token)
    if found.header.get("kid") != key_id:
        raise jws.InvalidToken("another key")
    if found.claims.get("iss") != team_id:
        raise jws.InvalidToken("another team")
    found.verify(key)
    return found.seconds("iat")


def _remember(known: OrderedDict[Any, Any], key: object, value: object) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > CONNECTIONS:
        known.popitem(last=False)
