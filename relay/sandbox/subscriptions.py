"""Subscriptions of browsers. They are derived instead of stored, so they stay valid after a restart.

The last part of an endpoint holds a random number, the hash of the key that the page subscribed with (if
any), and a signature. The browser's own key is derived from it with the sandbox's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.sandbox import jws

PATH = "/push/"
GONE = 10_000
"""Ended subscriptions that are remembered."""

_NUMBER, _HASH, _MARK = 12, 16, 8
_ANY = bytes(_HASH)
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256: private keys are between 1 and one less."""


@dataclass(frozen=True)
class Subscription:
    """A browser's subscription. `private_key` and `auth` decrypt; `sender` is the hash of the key that may
    send."""

    identity: str
    private_key: ec.EllipticCurvePrivateKey
    auth: bytes
    sender: bytes

    def accepts(self, key: bytes) -> bool:
        """Return whether the owner of this VAPID key may send."""
        return self.sender in (_ANY, _hash(key))

    def document(self, url: str) -> dict[str, Any]:
        """Return the JSON of the subscription, as in a browser."""
        p256dh = jws.encoded(point(self.private_key.public_key()))
        keys = {"p256dh": p256dh, "auth": jws.encoded(self.auth)}
        return {"endpoint": f"{url}{PATH}{self.identity}", "expirationTime": None, "keys": keys}


class Subscriptions:
    """Makes subscriptions and finds them by their endpoint. `secret` is the sandbox's own."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"subscriptions " + secret).digest()
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._find = lru_cache(maxsize=10_000)(self._derive)

    def make(self, key: bytes | None = None) -> Subscription:
        """Make a subscription. `key` is the applicationServerKey that may send to it, a point on P-256; None:
        any."""
        seed = secrets.token_bytes(_NUMBER) + (_ANY if key is None else _hash(key))
        return self._find(jws.encoded(seed + self._mark(seed)))

    def find(self, identity: str) -> Subscription | None:
        """Find a subscription by the last part of its endpoint; None if it is not ours."""
        try:
            data = jws.decoded(identity)
        except ValueError:
            return None
        seed, mark = data[:-_MARK], data[-_MARK:]
        if len(data) != _NUMBER + _HASH + _MARK or not hmac.compare_digest(mark, self._mark(seed)):
            return None
        return self._find(identity)

    def end(self, identity: str) -> None:
        """End a subscription: the user withdraws the permission."""
        self._gone[identity] = None
        if len(self._gone) > GONE:
            self._gone.popitem(last=False)

    def is_gone(self, identity: str) -> bool:
        """Return whether the subscription has ended."""
        return identity in self._gone

    def _derive(self, identity: str) -> Subscription:
        number = int.from_bytes(self._digest("key", identity) + self._digest("more", identity))
        private_key = ec.derive_private_key(number % (_ORDER - 1) + 1, ec.SECP256R1())
        sender = jws.decoded(identity)[_NUMBER : _NUMBER + _HASH]
        return Subscription(identity, private_key, self._digest("auth", identity)[:16], sender)

    def _digest(self, purpose: str, identity: str) -> bytes:
        return hmac.digest(self._secret, f"{purpose} {identity}".encode(), "sha256")

    def _mark(self, seed: bytes) -> bytes:
        return hmac.digest(self._secret, b"mark " + seed, "sha256")[:_MARK]


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key in the form of browsers: 65 bytes, not compressed."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def public_key(text: str) -> tuple[bytes, ec.EllipticCurvePublicKey]:
    """Read a public key from base64url. Raises ValueError."""
    try:
        data = jws.decoded(text)
        if len(data) != 65:
            raise ValueError
        return data, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    except ValueError:
        raise ValueError("must be an uncompressed point on P-256, 65 bytes in base64url") from None


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_HASH]
