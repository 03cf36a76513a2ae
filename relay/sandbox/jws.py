"""Signed tokens, verified without a JWT library (RFC 7515; RFC 7518, sections 3.3 and 3.4)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

_PART = re.compile(r"[A-Za-z0-9_-]+")
_object = msgspec.json.Decoder(dict[str, Any]).decode


class InvalidToken(Exception):
    """A token is invalid; the text gives the reason in one line."""


@dataclass(frozen=True, slots=True)
class Token:
    """A readable token. Call `verify` to check its signature."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    def verify(self, key: EllipticCurvePublicKey | RSAPublicKey) -> None:
        """Raise InvalidToken unless this key has signed the token, by ES256 or RS256."""
        algorithm = "RS256" if isinstance(key, RSAPublicKey) else "ES256"
        if self.header.get("alg") != algorithm:
            raise InvalidToken(f"alg must be {algorithm}")
        try:
            if isinstance(key, RSAPublicKey):
                key.verify(self.signature, self.signed, PKCS1v15(), SHA256())
            else:
                key.verify(_der(self.signature), self.signed, ECDSA(SHA256()))
        except InvalidSignature:
            raise InvalidToken("signed by another key, or changed since") from None

    def seconds(self, claim: str) -> int:
        """Return a claim that is whole Unix seconds. Raises InvalidToken."""
        value = self.claims.get(claim)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidToken(f"{claim} must be Unix seconds, a whole number")
        return value


def read(text: str) -> Token:
    """Parse a token. Raises InvalidToken."""
    parts = text.split(".")
    if len(parts) != 3 or not all(map(_PART.fullmatch, parts)):
        raise InvalidToken("not three parts in base64url with dots between")
    try:
        header, claims, signature = map(decoded, parts)
        return Token(_object(header), _object(claims), f"{parts[0]}.{parts[1]}".encode(), signature)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise InvalidToken("header or claims are not JSON objects in base64url") from None


def decoded(text: str) -> bytes:
    """Decode base64url, with or without padding. Raises ValueError."""
    bare = text.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def encoded(data: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _der(signature: bytes) -> bytes:
    # JOSE uses r and s as they are, not the DER form of most libraries.
    if len(signature) != 64:
        raise InvalidToken("an ES256 signature is 64 bytes: r and s, not DER")
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    return encode_dss_signature(r, s)
