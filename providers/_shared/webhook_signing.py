"""Signatures of webhooks, in the formats that receivers expect.

- standard: `v1` by HMAC-SHA256 and `v1a` by Ed25519 (Standard Webhooks 1.0.0)
- hub: `sha256=<hex>` over the body, as GitHub and WebSub send it
- timestamped: `t=<seconds>,v1=<hex>` over `<seconds>.<body>`, as Stripe sends it

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Literal

SYMMETRIC, PRIVATE = "whsec_", "whsk_"

SHORTEST_KEY, LONGEST_KEY = 16, 64
"""Bytes of a decoded `whsec_…`; the specification recommends 24 to 64."""

SEED, SEED_AND_PUBLIC = 32, 64
"""Bytes of a decoded `whsk_…`: an Ed25519 seed, often followed by its public key."""

FormatName = Literal["standard", "hub", "timestamped"]

Signer = Callable[[bytes], str]
"""Signs bytes with one secret."""

Signing = Callable[[Sequence[Signer], str, str, bytes], str]
"""Returns the value of the header for signers, id, timestamp and body."""


@dataclass(frozen=True)
class SignatureFormat:
    """One way to sign a request. `signer` raises ValueError, whose text holds no part of the secret."""

    name: FormatName
    header: str
    """The usual name of the header."""
    signer: Callable[[str], Signer]
    sign: Signing
    most: int
    """Signatures that the header can carry."""


@lru_cache(maxsize=1024)
def standard_signer(secret: str) -> Signer:
    """The signer of a `whsec_…` (the prefix may be missing) or `whsk_…`. Raises ValueError."""
    return _ed25519(secret) if is_private(secret) else _versioned_hmac(secret)


@lru_cache(maxsize=1024)
def hex_signer(secret: str) -> Signer:
    """The signer of any text, whose UTF-8 is the key, as GitHub's and Stripe's libraries use it.

    Raises ValueError for `whsk_…`.
    """
    if is_private(secret):
        raise ValueError(f"{PRIVATE}… signs with Ed25519, which needs `signature.format: standard`")
    if not secret:
        raise ValueError("must not be empty")
    try:
        prepared = hmac.new(secret.encode(), digestmod=sha256)
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None

    def sign(content: bytes) -> str:
        mac = prepared.copy()
        mac.update(content)
        return mac.hexdigest()

    return sign


def is_private(secret: str) -> bool:
    """Return whether a secret signs with Ed25519, so that receivers need only the public key."""
    return secret.startswith(PRIVATE)


def _sign_standard(signers: Sequence[Signer], identity: str, timestamp: str, body: bytes) -> str:
    content = f"{identity}.{timestamp}.".encode() + body
    if len(signers) == 1:  # the usual case; a comprehension costs a call of its own before Python 3.12
        return signers[0](content)
    return " ".join([sign(content) for sign in signers])


def _sign_hub(signers: Sequence[Signer], identity: str, timestamp: str, body: bytes) -> str:
    (sign,) = signers
    return f"sha256={sign(body)}"


def _sign_timestamped(signers: Sequence[Signer], identity: str, timestamp: str, body: bytes) -> str:
    content = f"{timestamp}.".encode() + body
    return ",".join([f"t={timestamp}", *[f"v1={sign(content)}" for sign in signers]])


MOST = 10
"""Signatures of one request: a rotation needs two."""

FORMATS: Mapping[FormatName, SignatureFormat] = MappingProxyType(
    {
        found.name: found
        for found in (
            SignatureFormat("standard", "webhook-signature", standard_signer, _sign_standard, MOST),
            SignatureFormat("hub", "x-hub-signature-256", hex_signer, _sign_hub, 1),
            SignatureFormat("timestamped", "webhook-signature", hex_signer, _sign_timestamped, MOST),
        )
    }
)


def _versioned_hmac(secret: str) -> Signer:
    key = _decoded(secret.removeprefix(SYMMETRIC))
    if key is None:
        raise ValueError(f"must be {SYMMETRIC} or {PRIVATE} followed by base64")
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(f"must hold {SHORTEST_KEY} to {LONGEST_KEY} bytes in base64, not {len(key)}")
    prepared = hmac.new(key, digestmod=sha256)

    def sign(content: bytes) -> str:
        mac = prepared.copy()
        mac.update(content)
        return "v1," + b2a_base64(mac.digest(), newline=False).decode()

    return sign


def _ed25519(secret: str) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    raw = _decoded(secret.removeprefix(PRIVATE))
    if raw is None or len(raw) not in (SEED, SEED_AND_PUBLIC):
        raise ValueError(f"must be {PRIVATE} followed by {SEED} or {SEED_AND_PUBLIC} bytes in base64")
    key = Ed25519PrivateKey.from_private_bytes(raw[:SEED])
    if len(raw) == SEED_AND_PUBLIC and raw[SEED:] != key.public_key().public_bytes_raw():
        raise ValueError("its second half is not the public key of its first half")

    def sign(content: bytes) -> str:
        return "v1a," + b2a_base64(key.sign(content), newline=False).decode()

    return sign


def _decoded(text: str) -> bytes | None:
    try:
        return a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (Error, ValueError):
        return None
