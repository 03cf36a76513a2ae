"""What a message asks for in general, in the words of the push services. All pure."""

from __future__ import annotations

import base64
from hashlib import sha256

from relay.message import Message

LONGEST_LIFE = 2_419_200
"""Seconds (28 days): the most that FCM and Web Push take."""


def seconds_left(message: Message, now: float) -> int | None:
    """The whole seconds until the message expires, rounded down; None: it never expires."""
    left = message.remaining(now)
    return None if left is None else min(LONGEST_LIFE, int(left))


def topic(key: str) -> str:
    """A collapse key as a Web Push Topic: always 32 characters of base64url, which every service takes."""
    return base64.urlsafe_b64encode(sha256(key.encode()).digest()[:24]).decode()


def collapse_id(key: str) -> str:
    """A collapse key as an `apns-collapse-id`, which has at most 64 bytes and must fit into a header."""
    if len(key.encode()) <= 64 and key.isascii() and key.isprintable() and key == key.strip():
        return key
    return base64.urlsafe_b64encode(sha256(key.encode()).digest()).decode().rstrip("=")
