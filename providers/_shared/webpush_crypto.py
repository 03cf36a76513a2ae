"""Web Push: encryption of the payload (RFC 8291) and the sender's identity (RFC 8292)."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from relay.settings.http import pem_text

CURVE = ec.SECP256R1()

LONGEST_RAW_KEY = 44
"""Characters of a key's 32 bytes in base64. A longer text is a DER structure."""

RECORD = 4096
"""Bytes of the one record, which every push service accepts."""

LARGEST = RECORD - 103
"""Bytes of plaintext. Encryption adds a header of 86 bytes, a tag of 16 and a delimiter."""

VAPID_LIFE = 12 * 3600
"""Seconds that a token is valid. The RFC allows 24 hours, which a wrong clock must not exceed."""

VAPID_REUSE = 6 * 3600
"""Seconds for which a token is used. Apple accepts a new one at most once an hour."""


def unpadded(data: bytes) -> str:
    """Base64url without padding, as browsers write keys."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: object, length: int, name: str) -> bytes:
    """Bytes of a base64url text of a known length. Raises ValueError that names the field."""
    try:
        if not isinstance(text, str):
            raise ValueError
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name}: must be base64url") from None
    if len(data) != length:
        raise ValueError(f"{name}: must be {length} bytes, not {len(data)}")
    return data


def public_key(text: object, name: str) -> bytes:
    """An uncompressed point on P-256. Raises ValueError."""
    data = decoded(text, 65, name)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(CURVE, data)
    except ValueError:
        raise ValueError(f"{name}: is not a point on the curve P-256") from None
    return data


def encrypt(
    plaintext: bytes,
    receiver: bytes,
    auth: bytes,
    *,
    sender: ec.EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """One aes128gcm record (RFC 8188) for a subscription. `sender` and `salt` are new unless given."""
    body: bytes = http_ece.encrypt(
        plaintext,
        salt=salt,
        private_key=sender or ec.generate_private_key(CURVE),
        dh=receiver,
        auth_secret=auth,
        version="aes128gcm",
        rs=RECORD,
    )
    return body


def read_private_key(text: str) -> ec.EllipticCurvePrivateKey:
    """A VAPID key: PEM, the same structure as base64 without its frame, or the bare 32 bytes in base64url, as
    `web-push generate-vapid-keys` prints them.

    A PEM may have `\\n` for its line breaks, as in an environment variable. Raises ValueError.
    """
    text = pem_text(text).strip()
    if "-----BEGIN" not in text and len(text) <= LONGEST_RAW_KEY:
        return ec.derive_private_key(int.from_bytes(decoded(text, 32, "the key"), "big"), CURVE)
    try:
        if "-----BEGIN" in text:
            key = load_pem_private_key(text.encode(), None)
        else:
            bare = text.replace("-", "+").replace("_", "/").rstrip("=")
            key = load_der_private_key(base64.b64decode(bare + "=" * (-len(bare) % 4)), None)
    except Exception:  # the library's own mix
        raise ValueError("must be a PEM private key or base64url; `relay vapid` creates one") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("must be a P-256 key; `relay vapid` creates one")
    return key


def application_server_key(key: ec.EllipticCurvePrivateKey) -> str:
    """The public key as browsers take it for `applicationServerKey`."""
    return unpadded(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def origin(endpoint: str) -> str:
    """The origin of an endpoint, which is the audience of a token: in lower case, without a default port.

    Source: RFC 6454, section 6.2, which RFC 8292 names.
    """
    parts = urlsplit(endpoint)
    host, port = (parts.hostname or "").lower(), parts.port
    host = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default) else "")


class Vapid:
    """Authorization headers: one for each origin of a push service, renewed every few hours."""

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, subject: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._subject = subject
        self._clock = clock
        self._public = application_server_key(key)
        # Origins come with messages, so their number must be limited.
        self._header = lru_cache(maxsize=1000)(self._make)

    def authorization(self, endpoint: str) -> str:
        """The value of the header for a request to `endpoint`."""
        return self._header(origin(endpoint), int(self._clock()) // VAPID_REUSE)

    def _make(self, audience: str, period: int) -> str:
        claims: dict[str, Any] = {
            "aud": audience,
            "exp": period * VAPID_REUSE + VAPID_LIFE,
            "sub": self._subject,
        }
        return f"vapid t={jwt.encode(claims, self._key, algorithm='ES256')}, k={self._public}"
