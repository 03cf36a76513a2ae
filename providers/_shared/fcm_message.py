"""The `message` object of FCM: its target, its limits, and the envelope's fields in it. All pure.

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from relay.message import Message

from .upstream import collapse_id, seconds_left, topic

TARGETS = ("token", "topic", "condition", "fid")
LARGEST, LARGEST_TO_TOPIC = 4096, 2048
"""Bytes of a payload: keys and values of `data`, and the notification."""

SHOWN = ("alert", "badge", "sound")
"""The keys of `aps` with a visible or audible effect."""

_TOPIC = re.compile(r"[a-zA-Z0-9\-_.~%]+")
_PRIORITY = {0: ("HIGH", "10", "high"), 2: ("NORMAL", "5", "low")}
"""High and low priority for Android, APNs and Web Push. Messages of normal priority get FCM's own
defaults."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """The target of a message: `kind` is one of `TARGETS`."""

    kind: str
    value: str

    @property
    def is_device(self) -> bool:
        """Whether the target is one installation of an app, which may be gone."""
        return self.kind in {"token", "fid"}


def find_target(payload: dict[str, Any]) -> Target:
    """Return the target of a message. Both parts are empty if there is none."""
    for kind in TARGETS:
        # Null means absent, as in Google's own JSON parser.
        if payload.get(kind) is not None:
            return Target(kind, str(payload[kind]))
    return Target("", "")


def check_message(payload: dict[str, Any]) -> None:
    """Raise ValueError, one line, for a message that FCM would refuse."""
    named = [name for name in TARGETS if payload.get(name) is not None]
    if len(named) != 1:
        found = f"not {' and '.join(named)}" if named else "none is set"
        raise ValueError(f"exactly one of {', '.join(TARGETS)} is needed; {found}")
    if not isinstance(payload[named[0]], str) or not payload[named[0]]:
        raise ValueError(f"{named[0]}: must be a text that is not empty")
    target = find_target(payload)
    if target.kind == "topic" and not _TOPIC.fullmatch(target.value):
        raise ValueError("topic: only letters, digits and -_.~% (and no /topics/ in front)")
    data = payload.get("data")
    if data is None:
        data = {}
    _check_data(data)
    for name in ("notification", "android", "apns", "webpush", "fcm_options"):
        if not isinstance(payload.get(name), dict | None):
            raise ValueError(f"{name}: must be an object")
    _check_apns(payload)
    size = sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
    if payload.get("notification") is not None:
        size += len(msgspec.json.encode(payload["notification"]))
    largest = LARGEST if target.is_device else LARGEST_TO_TOPIC
    if size > largest:
        raise ValueError(
            f"{size} bytes of data and notification; FCM accepts at most {largest} to a {target.kind}"
        )


def with_envelope(message: Message, now: float) -> bytes:
    """Return the JSON of the message with the envelope's ttl, collapse key and priority.

    Fields of the payload win. A message without any of these is sent byte for byte.
    """
    left = seconds_left(message, now)
    priority = _PRIORITY.get(message.priority)
    if left is None and not message.collapse_key and priority is None:
        return message.payload_json
    payload = dict(message.payload)
    android, apns, webpush = {}, {}, {}
    if left is not None:
        android["ttl"] = f"{left}s"
        apns["apns-expiration"] = str(int(message.expires_at))
        webpush["TTL"] = str(left)
    if message.collapse_key:
        android["collapse_key"] = message.collapse_key
        apns["apns-collapse-id"] = collapse_id(message.collapse_key)
        webpush["Topic"] = topic(message.collapse_key)
    if priority is not None:
        android["priority"], for_apns, webpush["Urgency"] = priority
        apns |= _apns_priority(payload, for_apns)
    payload["android"] = _add(payload.get("android") or {}, android)
    for platform, headers in (("apns", apns), ("webpush", webpush)):
        block = dict(payload.get(platform) or {})
        block["headers"] = _add(block.get("headers") or {}, headers)
        payload[platform] = block
    return msgspec.json.encode(payload)


def _check_data(data: object) -> None:
    if not isinstance(data, dict):
        raise ValueError("data: must be an object")
    for key, value in data.items():
        if not isinstance(value, str):
            raise ValueError(f"data.{key[:60]}: must be a text")
        if key in {"from", "message_type"} or key.startswith(("google", "gcm")):
            raise ValueError(f"data.{key[:60]}: the name is reserved by FCM")


def _check_apns(payload: dict[str, Any]) -> None:
    """Refuse a silent push with priority 10: FCM would answer that the token is invalid, which it is not."""
    apns = payload.get("apns") or {}
    headers = apns.get("headers")
    if headers is None:
        return
    if not isinstance(headers, dict):
        raise ValueError("apns.headers: must be an object")
    priorities = [value for name, value in headers.items() if name.lower() == "apns-priority"]
    if "10" in priorities and not _is_shown(payload):
        raise ValueError(
            "apns.headers.apns-priority: 10 is only for a push that shows something; "
            "write 5, or add a notification"
        )


def _is_shown(payload: dict[str, Any]) -> bool:
    """Return whether APNs accepts priority 10 for the message, because it shows something or is about a Live
    Activity."""
    aps = _aps(payload)
    return (
        payload.get("notification") is not None
        or any(aps.get(name) is not None for name in SHOWN)
        or aps.get("event") is not None
    )


def _apns_priority(payload: dict[str, Any], wanted: str) -> dict[str, str]:
    """Return the header `apns-priority` that FCM accepts for this message, or none."""
    if _is_shown(payload):
        return {"apns-priority": wanted}
    return {"apns-priority": "5"} if _aps(payload).get("content-available") == 1 else {}


def _aps(payload: dict[str, Any]) -> dict[str, Any]:
    content: object = payload.get("apns")
    for name in ("payload", "aps"):
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def _add(block: dict[str, Any], mapped: dict[str, str]) -> dict[str, Any]:
    """Add the envelope's fields unless the block has them in either of Google's spellings. Null is absent."""
    given = {name: value for name, value in block.items() if value is not None}
    present = {name.replace("_", "").lower() for name in given}
    return {
        **{name: value for name, value in mapped.items() if name.replace("_", "").lower() not in present},
        **given,
    }
