"""APNs' provider tokens, checked from the bytes up (RFC 7515, RFC 7518 section 3.4).

Source: https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

OLDEST = 3600
"""Seconds that a token may be old, or its issue ahead of us."""

_PART = re.compile(r"[A-Za-z0-9_-]+")
_object = msgspec.json.Decoder(dict[str, Any]).decode


class InvalidToken(Exception):
    """No token of ours."""


def issued_at(token: str, key: EllipticCurvePublicKey, key_id: str, team_id: str) -> int:
    """When the token was issued, in Unix seconds. Raises InvalidToken unless key and team are these."""
    parts = token.split(".")
    if len(parts) != 3 or not all(map(_PART.fullmatch, parts)):
        raise InvalidToken("no JWT")
    try:
        header, claims, signature = map(_decoded, parts)
        found, claimed = _object(header), _object(claims)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidToken("no JWT") from error
    if found.get("alg") != "ES256" or found.get("kid") != key_id:
        raise InvalidToken("another algorithm or key")
    issued = claimed.get("iat")
    if claimed.get("iss") != team_id or not isinstance(issued, int) or isinstance(issued, bool):
        raise InvalidToken("another team, or `iat` in no seconds")
    # Not the DER form that most libraries give: r and s as they are.
    if len(signature) != 64:
        raise InvalidToken("a signature that is not r and s")
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        key.verify(encode_dss_signature(r, s), f"{parts[0]}.{parts[1]}".encode(), ECDSA(SHA256()))
    except InvalidSignature as error:
        raise InvalidToken("signed by another key") from error
    return issued


def _decoded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
