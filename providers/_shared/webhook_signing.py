"""Signatures of Standard Webhooks 1.0.0: `v1` by HMAC-SHA256, `v1a` by Ed25519.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256

SYMMETRIC, PRIVATE = "whsec_", "whsk_"

SHORTEST_KEY, LONGEST_KEY = 16, 64
"""Bytes of a decoded `whsec_…`; the specification recommends 24 to 64."""

SEED, SEED_AND_PUBLIC = 32, 64
"""Bytes of a decoded `whsk_…`: an Ed25519 seed, often followed by its public key."""

Signer = Callable[[bytes], str]
"""Returns one entry of `webhook-signature` for `id.timestamp.body`."""


@lru_cache(maxsize=1024)
def signer(secret: str) -> Signer:
    """The signer of a `whsec_…` (the prefix may be missing) or `whsk_…`.

    Raises ValueError, whose text holds no part of the secret.
    """
    return _ed25519(secret) if is_private(secret) else _hmac(secret)


def is_private(secret: str) -> bool:
    """Whether a secret signs with Ed25519, so that receivers need only the public key."""
    return secret.startswith(PRIVATE)


def signatures(signers: Sequence[Signer], content: bytes) -> str:
    """The value of `webhook-signature`."""
    return " ".join([sign(content) for sign in signers])


def _hmac(secret: str) -> Signer:
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
