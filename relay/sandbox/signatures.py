"""Signatures of webhooks, checked as the libraries of Standard Webhooks, GitHub and Stripe check them.

A receiver recognises the format by the header's value, in any header, because `signature.header` of a webhook
provider can name any.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relay.sandbox.exchange import Refused

CLOCK = 300
"""Seconds by which the timestamp of a request may be off."""

_SECONDS = re.compile(r"[0-9]{1,15}")
_HUB = re.compile(r"sha256=([0-9a-f]{64})")
_TIMESTAMPED = re.compile(r"t=([0-9]{1,15})((?:,v[0-9]+=[0-9a-f]{64})+)")
_STANDARD = re.compile(r"v1a?,.*")
_STANDARD_HEADER = "webhook-signature"


@dataclass(frozen=True)
class Keys:
    """The keys of one secret: that of the standard (v1, or v1a by Ed25519), and its text for the rest."""

    standard: bytes | Ed25519PublicKey
    text: bytes

    @classmethod
    def of(cls, secret: str) -> Keys:
        """The keys of `whsec_…` (prefix and padding are optional), or of `whsk_…`. Raises ValueError."""
        private = secret.startswith("whsk_")
        key = _decoded(secret.removeprefix("whsk_").removeprefix("whsec_"))
        if not key or (private and len(key) not in (32, 64)):
            raise ValueError(
                "the webhook secret must be whsec_ followed by base64, or whsk_ and an Ed25519 key"
            )
        standard = Ed25519PrivateKey.from_private_bytes(key[:32]).public_key() if private else key
        return cls(standard, secret.encode())


def check_signature(headers: Mapping[str, str], body: bytes, keys: Keys, now: float) -> None:
    """Raise Refused (401) unless the request is signed with the secret, recently and over this body.

    `now` is in Unix seconds. Header names are case-insensitive. One valid signature is enough.
    """
    for value in headers.values():
        if found := _HUB.fullmatch(value):
            _check_hub(found[1], body, keys)
            return
        if found := _TIMESTAMPED.fullmatch(value):
            _check_timestamped(found[1], found[2], body, keys, now)
            return
    _check_standard(headers, body, keys, now)


def _check_hub(signature: str, body: bytes, keys: Keys) -> None:
    if not hmac.compare_digest(signature, _hex(keys, body)):
        raise Refused(401, "the sha256 signature does not match the body")


def _check_timestamped(seconds: str, signatures: str, body: bytes, keys: Keys, now: float) -> None:
    _check_age("t", seconds, now)
    expected = _hex(keys, f"{seconds}.".encode() + body)
    for signature in signatures.split(","):
        version, _, value = signature.partition("=")
        if version == "v1" and hmac.compare_digest(value, expected):
            return
    raise Refused(401, "no v1 signature matches the timestamp and the body")


def _check_standard(headers: Mapping[str, str], body: bytes, keys: Keys, now: float) -> None:
    found = {name: headers.get(f"webhook-{name}", "") for name in ("id", "timestamp")}
    found["signature"] = headers.get(_STANDARD_HEADER) or next(
        (value for value in headers.values() if _STANDARD.fullmatch(value)), ""
    )
    for name, value in found.items():
        if not value:
            raise Refused(401, f"the header webhook-{name} is missing")
    _check_age("webhook-timestamp", found["timestamp"], now)
    # Bytes of a header that are not UTF-8 arrive as surrogates; turn them back into bytes.
    signed = f"{found['id']}.{found['timestamp']}.".encode("utf-8", "surrogateescape") + body
    wanted = "v1" if isinstance(keys.standard, bytes) else "v1a"
    for signature in found["signature"].split(" "):
        version, _, value = signature.partition(",")
        if version == wanted and _is_right(value, signed, keys.standard):
            return
    raise Refused(
        401, f"no {wanted} signature in webhook-signature matches the id, the timestamp and the body"
    )


def _check_age(name: str, seconds: str, now: float) -> None:
    if not _SECONDS.fullmatch(seconds):
        raise Refused(401, f"{name} must be Unix seconds")
    skew = abs(now - int(seconds))
    if skew > CLOCK:
        raise Refused(401, f"{name} is off by {skew:.0f} s; at most {CLOCK} are allowed")


def _is_right(value: str, signed: bytes, key: bytes | Ed25519PublicKey) -> bool:
    if isinstance(key, bytes):
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        return hmac.compare_digest(value.encode("utf-8", "surrogateescape"), expected)
    try:
        key.verify(_decoded(value), signed)
    except InvalidSignature:
        return False
    return True


def _hex(keys: Keys, content: bytes) -> str:
    return hmac.new(keys.text, content, hashlib.sha256).hexdigest()


def _decoded(text: str) -> bytes:
    """Decode base64, with or without padding. Returns no bytes if it is not base64."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
