"""End-to-end encryption of Pusher's `private-encrypted-` channels, as the official libraries do it.

Source: https://pusher.com/docs/channels/using_channels/encrypted-channels/ and the official libraries.
The box (XSalsa20 and Poly1305) is libsodium's: the extra `encryption`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from secrets import token_bytes

import msgspec

from relay.extras import install

PREFIX = "private-encrypted-"
"""The prefix of encrypted channels."""

KEY = 32
"""Bytes of a master key."""

NONCE, TAG = 24, 16
"""Bytes of a box's nonce, and of the authenticator in front of its ciphertext."""

MISSING = f"needs the library PyNaCl: {install('encryption')}"

Seal = Callable[[str, str], str]
"""Encrypts a text for a channel. Returns the data of the event."""


class Box(msgspec.Struct):
    """The data of an event to an encrypted channel."""

    nonce: str
    ciphertext: str


_decode = msgspec.json.Decoder(Box).decode
_encode = msgspec.json.Encoder().encode


def read_master_key(text: str) -> bytes:
    """The key of a base64 text. Raises ValueError, whose text holds no part of the key."""
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        raise ValueError("must be base64, as `openssl rand -base64 32` prints it") from None
    if len(key) != KEY:
        raise ValueError(f"must be the base64 of {KEY} bytes, not of {len(key)}")
    return key


def sealer(master_key: bytes) -> Seal:
    """Encrypts with this master key. Raises ValueError if the library is missing."""
    try:
        from nacl.secret import SecretBox
    except ImportError:
        raise ValueError(MISSING) from None

    def seal(channel: str, text: str) -> str:
        box = SecretBox(sha256(channel.encode() + master_key).digest())
        nonce = token_bytes(NONCE)
        sealed = box.encrypt(text.encode(), nonce).ciphertext
        return _encode(Box(b64encode(nonce).decode(), b64encode(sealed).decode())).decode()

    return seal


_AROUND = len(_encode(Box("", ""))) + NONCE // 3 * 4


def sealed_size(size: int) -> int:
    """Bytes of the data of an event whose text has `size` bytes."""
    return _AROUND + (size + TAG + 2) // 3 * 4


def most_to_seal(size: int) -> int:
    """Bytes of the largest text whose encrypted data has at most `size` bytes."""
    return (size - _AROUND) // 4 * 3 - TAG


def is_sealed(data: str) -> bool:
    """Return whether this is encrypted data. Only clients can check the key."""
    try:
        box = _decode(data)
        nonce, ciphertext = b64decode(box.nonce, validate=True), b64decode(box.ciphertext, validate=True)
    except (msgspec.DecodeError, ValueError):
        return False
    return len(nonce) == NONCE and len(ciphertext) > TAG
