"""Fields of the envelope in the terms of the push services. All pure."""

from __future__ import annotations

import base64
from hashlib import sha256

from relay.message import Message

LONGEST_LIFE = 2_419_200
"""Seconds (28 days), the longest lifetime that FCM and Web Push accept."""


def seconds_left(message: Message, now: float) -> int | None:
    """Return the seconds until the message expires, rounded down; None: it never expires."""
    left = message.remaining(now)
    return None if left is None else min(LONGEST_LIFE, int(left))


def topic(key: str) -> str:
    """Return a collapse key as a Web Push Topic: 32 characters of base64url, which every service accepts."""
    return base64.urlsafe_b64encode(sha256(key.encode()).digest()[:24]).decode()


def collapse_id(key: str) -> str:
    """Return a collapse key as an `apns-collapse-id`, which is a header value of at most 64 bytes."""
    if len(key.encode()) <= 64 and key.isascii() and key.isprintable() and key == key.strip():
        return key
    return base64.urlsafe_b64encode(sha256(key.encode()).digest()).decode().rstrip("=")
