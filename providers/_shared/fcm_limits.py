"""What an FCM message must be, checked before it is sent. All checks raise ValueError, one line.

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

TARGETS = ("token", "topic", "condition", "fid")
LARGEST, LARGEST_TO_TOPIC = 4096, 2048
"""Bytes of a payload: keys and values of `data`, and the notification."""

_TOPIC = re.compile(r"[a-zA-Z0-9\-_.~%]+")


def check_message(payload: dict[str, Any]) -> None:
    """A message as FCM would refuse it forever."""
    named = [name for name in TARGETS if payload.get(name) is not None]
    if len(named) != 1:
        found = f"not {' and '.join(named)}" if named else "none is there"
        raise ValueError(f"exactly one of {', '.join(TARGETS)} is needed; {found}")
    target = payload[named[0]]
    if not isinstance(target, str) or not target:
        raise ValueError(f"{named[0]}: must be a text that is not empty")
    if named[0] == "topic" and not _TOPIC.fullmatch(target):
        raise ValueError("topic: only letters, digits and -_.~% (and no /topics/ in front)")
    # Null means absent, as Google's own JSON parser reads it.
    data = payload.get("data")
    if data is None:
        data = {}
    _check_data(data)
    for name in ("notification", "android", "apns", "webpush", "fcm_options"):
        if not isinstance(payload.get(name), dict | None):
            raise ValueError(f"{name}: must be an object")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
    if payload.get("notification") is not None:
        size += len(msgspec.json.encode(payload["notification"]))
    largest = LARGEST if named[0] in {"token", "fid"} else LARGEST_TO_TOPIC
    if size > largest:
        raise ValueError(
            f"{size} bytes of data and notification; FCM takes at most {largest} to a {named[0]}"
        )


def _check_data(data: object) -> None:
    if not isinstance(data, dict):
        raise ValueError("data: must be an object")
    for key, value in data.items():
        if not isinstance(value, str):
            raise ValueError(f"data.{key[:60]}: must be a text, and no other kind of value")
        if key in {"from", "message_type"} or key.startswith(("google", "gcm")):
            raise ValueError(f"data.{key[:60]}: the name is reserved by FCM")
