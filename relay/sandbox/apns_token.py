"""APNs' provider tokens.

Source: https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from relay.sandbox import jws

OLDEST = 3600
"""Seconds that a token may be old, or its issue ahead of us."""


def issued_at(token: str, key: EllipticCurvePublicKey, key_id: str, team_id: str) -> int:
    """When the token was issued, in Unix seconds. Raises jws.InvalidToken unless key and team are these."""
    found = jws.read(token)
    if found.header.get("kid") != key_id:
        raise jws.InvalidToken("another key")
    if found.claims.get("iss") != team_id:
        raise jws.InvalidToken("another team")
    found.verify(key)
    return found.seconds("iat")
