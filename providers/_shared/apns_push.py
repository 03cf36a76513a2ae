"""One push as APNs accepts it: its request and its limits. All pure.

Sources: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns,
https://developer.apple.com/documentation/usernotifications/sending-broadcast-push-notification-requests-to-apns
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha1
from typing import Any
from uuid import NAMESPACE_URL

import msgspec

from relay.message import Message
from relay.provider import Request

from .upstream import collapse_id

LARGEST, LARGEST_VOIP, LARGEST_BROADCAST = 4096, 5120, 5120
"""Bytes of a payload."""

NO_STORAGE = "0"
"""The expiration of a push that APNs tries to deliver once and does not store."""

SUFFIXES = {
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "location": ".location-query",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
}
"""The suffix that a push type adds to the app's bundle id in the topic."""

_LONGEST_LIFE, _LONGEST_LIFE_OF_BROADCAST = 30 * 86400, 8 * 3600
"""Seconds for which APNs stores a push."""

_LIVE_ACTIVITY = "liveactivity"
_DEVICE = re.compile(r"[0-9a-fA-F]+")
_CHANNEL = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_BUNDLE = re.compile(r"[A-Za-z0-9.-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_PRIORITIES = frozenset({"1", "5", "10"})
_TOKEN_ONLY = frozenset({"location", _LIVE_ACTIVITY})
"""Push types that APNs accepts with a provider token only."""

_COMMON_HEADERS = frozenset({"apns-topic", "apns-push-type", "apns-priority", "apns-expiration"})
_HEADERS = _COMMON_HEADERS | {"apns-collapse-id", "apns-id"}
_BROADCAST_HEADERS = _COMMON_HEADERS | {"apns-request-id"}
_OUR_FIELDS = frozenset({"device_token", "channel_id", "headers"})

_PRIORITY = {0: "10", 2: "5"}
"""High and low. Messages of normal priority get Apple's default for their push type."""

_BROADCAST_PRIORITY = {0: "10", 1: "10", 2: "5"}
"""A broadcast must name its priority; 10 is Apple's default for other pushes."""

_NAMESPACE = NAMESPACE_URL.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The hexadecimal digit of a UUID that holds its variant, by the digit of the hash (RFC 9562, 4.1)."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def check_push(message: Message, topic: str | None, *, by_token: bool) -> None:
    """Raise ValueError, one line, for a push that APNs would refuse.

    `topic` is the configured one; `by_token`: the requests carry a provider token.
    """
    payload = message.payload
    kind = push_type(payload)
    if payload.get("channel_id") is not None:
        _check_broadcast(payload, topic, kind)
        largest = LARGEST_BROADCAST
    else:
        _check_device(payload, topic, kind, by_token=by_token)
        largest = LARGEST_VOIP if kind == "voip" else LARGEST
    # The body is a part of the payload.
    if len(message.payload_json) > largest and (size := len(_body(message, largest))) > largest:
        raise ValueError(f"{size} bytes of payload; APNs accepts at most {largest}")


def push_request(
    message: Message, base: str, topic: str | None, now: float, more_headers: Mapping[str, str]
) -> Request:
    """Return the request of a push. `more_headers`, such as its authorization, replace others."""
    payload = message.payload
    if payload.get("channel_id") is not None:
        headers = _broadcast_headers(message, now)
        path = f"/4/broadcasts/apps/{bundle_id(payload, topic)}"
        largest = LARGEST_BROADCAST
    else:
        kind = push_type(payload)
        headers = _device_headers(message, topic, kind, now)
        path = f"/3/device/{payload['device_token']}"
        largest = LARGEST_VOIP if kind == "voip" else LARGEST
    headers.update(more_headers)
    return Request(base + path, _body(message, largest), headers)


def target_of(payload: dict[str, Any]) -> str:
    """Return the device token or the channel id of a push."""
    channel = payload.get("channel_id")
    return str(payload.get("device_token") if channel is None else channel)


def bundle_id(payload: dict[str, Any], topic: str | None) -> str:
    """Return the app of a broadcast. Raises ValueError."""
    found = headers_of(payload).get("apns-topic", topic)
    if found is None:
        raise ValueError("headers.apns-topic: missing, and the configuration has no topic")
    found = found.removesuffix(SUFFIXES[_LIVE_ACTIVITY])
    if not _BUNDLE.fullmatch(found):
        raise ValueError("headers.apns-topic: must be a bundle id: letters, digits, full stops and -")
    return found


def push_type(payload: dict[str, Any]) -> str:
    """Return the push type that the headers name; otherwise infer it from the payload."""
    headers = payload.get("headers")
    named = headers.get("apns-push-type") if isinstance(headers, dict) else None
    if named is not None:
        return str(named)
    if payload.get("channel_id") is not None:
        return _LIVE_ACTIVITY
    aps = payload.get("aps")
    if not isinstance(aps, dict):
        return "mdm" if payload.get("mdm") is not None else "alert"
    if aps.get("event") is not None:
        return _LIVE_ACTIVITY
    if aps.get("content-available") != 1:
        return "alert"
    shows = any(aps.get(name) is not None for name in ("alert", "badge", "sound"))
    return "alert" if shows else "background"


def headers_of(payload: dict[str, Any]) -> dict[str, str]:
    """Return the headers of the payload; null is the same as absent. Raises ValueError."""
    headers = payload.get("headers")
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise ValueError("headers: must be an object")
    known = _HEADERS if payload.get("channel_id") is None else _BROADCAST_HEADERS
    found = {}
    for name, value in headers.items():
        if name not in known:
            raise ValueError(f"headers.{name[:60]}: no such header; known: {', '.join(sorted(known))}")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int) or not _VALUE.fullmatch(str(value)):
            raise ValueError(f"headers.{name}: must be a text of visible ASCII characters")
        found[name] = str(value)
    return found


def apns_id(message_id: str) -> str:
    """Return a UUID for the message, the same at every attempt."""
    return message_id.lower() if _is_uuid(message_id) else _uuid5(f"relay:{message_id}")


def _check_device(payload: dict[str, Any], topic: str | None, kind: str, *, by_token: bool) -> None:
    device = payload.get("device_token")
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise ValueError("device_token: must be a text of hexadecimal digits (or give a channel_id)")
    headers = headers_of(payload)
    if kind == "mdm" and payload.get("aps") is None:
        if not isinstance(payload.get("mdm"), str):
            raise ValueError("mdm: must be the PushMagic text of the device")
    elif not isinstance(payload.get("aps"), dict):
        raise ValueError("aps: must be an object")
    _check_values(headers)
    if kind == "background" and headers.get("apns-priority") == "10":
        raise ValueError("headers.apns-priority: a background push must not have 10")
    if kind in _TOKEN_ONLY and not by_token:
        raise ValueError(f"headers.apns-push-type: {kind} needs a provider token (key_file)")
    if "apns-topic" not in headers and topic is None and by_token:
        raise ValueError("headers.apns-topic: missing, and the configuration has no topic")


def _check_broadcast(payload: dict[str, Any], topic: str | None, kind: str) -> None:
    if payload.get("device_token") is not None:
        raise ValueError("channel_id: give either a channel_id or a device_token")
    channel = payload["channel_id"]
    if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
        raise ValueError("channel_id: must be the base64 text that APNs issued")
    bundle_id(payload, topic)
    _check_values(headers_of(payload))
    if kind.lower() != _LIVE_ACTIVITY:
        raise ValueError("headers.apns-push-type: a broadcast is always liveactivity")
    aps = payload.get("aps")
    if not isinstance(aps, dict):
        raise ValueError("aps: must be an object")
    if aps.get("event") == "start":
        raise ValueError(
            "aps.event: a broadcast cannot start a Live Activity; push `start` to each device, with the "
            "channel as `input-push-channel`"
        )


def _check_values(headers: dict[str, str]) -> None:
    if not headers:
        return
    if len(headers.get("apns-collapse-id", "")) > 64:
        raise ValueError("headers.apns-collapse-id: at most 64 bytes")
    for name in ("apns-id", "apns-request-id"):
        if name in headers and not _is_uuid(headers[name]):
            raise ValueError(f"headers.{name}: must be a UUID")
    if not _SECONDS.fullmatch(headers.get("apns-expiration", "0")):
        raise ValueError("headers.apns-expiration: must be Unix seconds, or 0 for one attempt")
    if headers.get("apns-priority", "5") not in _PRIORITIES:
        raise ValueError("headers.apns-priority: must be 10, 5 or 1")


def _device_headers(message: Message, topic: str | None, kind: str, now: float) -> dict[str, str]:
    headers = {"apns-id": apns_id(message.id), "apns-push-type": kind}
    if topic is not None:
        headers["apns-topic"] = _topic(topic, kind)
    priority = "5" if kind == "background" else _PRIORITY.get(message.priority)
    if priority is not None:
        headers["apns-priority"] = priority
    if message.expires_at:
        headers["apns-expiration"] = _expiration(message, now + _LONGEST_LIFE)
    if message.collapse_key:
        headers["apns-collapse-id"] = collapse_id(message.collapse_key)
    if own := headers_of(message.payload):
        headers |= own
        headers["apns-id"] = headers["apns-id"].lower()
    return headers


@lru_cache(maxsize=256)
def _topic(topic: str, kind: str) -> str:
    """Return the topic of a push type. The configured topic may include the suffix already."""
    suffix = SUFFIXES.get(kind, "")
    return topic.removesuffix(suffix) + suffix


def _broadcast_headers(message: Message, now: float) -> dict[str, str]:
    payload = message.payload
    headers = {
        "apns-request-id": apns_id(message.id),
        "apns-channel-id": str(payload["channel_id"]),
        "apns-push-type": _LIVE_ACTIVITY,
        "apns-priority": _BROADCAST_PRIORITY[message.priority],
        "apns-expiration": NO_STORAGE,
    }
    if message.expires_at:
        headers["apns-expiration"] = _expiration(message, now + _LONGEST_LIFE_OF_BROADCAST)
    headers |= headers_of(payload)
    headers.pop("apns-topic", None)  # the path names the app
    headers["apns-request-id"] = headers["apns-request-id"].lower()
    return headers


def _expiration(message: Message, latest: float) -> str:
    return str(int(min(message.expires_at, latest)))


def _uuid5(name: str) -> str:
    """Return `str(uuid5(NAMESPACE_URL, name))` (RFC 9562, 5.5) in a quarter of the time, because each push
    needs one."""
    text = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def _body(message: Message, largest: int) -> bytes:
    """Return the payload without the fields that became the path and the headers.

    Values keep the bytes that the application wrote, unless the body is too large that way: escapes such as
    `\\u0436` take three times the bytes of the character in UTF-8.
    """
    fields = _decode(message.payload_json)
    body = _encode({name: value for name, value in fields.items() if name not in _OUR_FIELDS})
    if len(body) <= largest:
        return body
    return _encode({name: value for name, value in message.payload.items() if name not in _OUR_FIELDS})
