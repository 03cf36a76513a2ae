"""The headers and payloads that APNs accepts for pushes to devices.

Source: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

LARGEST, LARGEST_VOIP = 4096, 5120
"""Bytes of a payload."""

LIVE_ACTIVITY = "liveactivity"

SUFFIXES = {
    "alert": "",
    "background": "",
    "controls": ".push-type.controls",
    "mdm": "",
    "widgets": ".push-type.widgets",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "location": ".location-query",
    LIVE_ACTIVITY: ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
}
"""The push types, and the suffix that each adds to the app's bundle id in the topic."""

TOKEN_ONLY = ("location", LIVE_ACTIVITY)
"""Push types that need a provider token."""

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
SECONDS = re.compile(r"[0-9]{1,15}")


class Wrong(Exception):
    """A request is wrong: the `status` of APNs' answer and its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def check_headers(headers: Mapping[str, str]) -> str:
    """Return the push type. Raises Wrong."""
    if not UUID.fullmatch(headers.get("apns-id", "00000000-0000-0000-0000-000000000000")):
        raise Wrong(400, "BadMessageId")
    if not SECONDS.fullmatch(headers.get("apns-expiration", "0")):
        raise Wrong(400, "BadExpirationDate")
    if len(headers.get("apns-collapse-id", "").encode("utf-8", "surrogateescape")) > 64:
        raise Wrong(400, "BadCollapseId")
    push_type = headers.get("apns-push-type", "alert")
    if push_type not in SUFFIXES:
        raise Wrong(400, "InvalidPushType")
    # The default is 10, but Apple does not refuse a background push without a priority.
    priority = headers.get("apns-priority", "5")
    if priority not in ("10", "5", "1") or (push_type == "background" and priority == "10"):
        raise Wrong(400, "BadPriority")
    return push_type


def check_unique(headers: Mapping[str, str]) -> None:
    """Raise Wrong if a header occurs twice."""
    names = [name.lower() for name in headers]
    if len(set(names)) < len(names):
        raise Wrong(400, "DuplicateHeaders")


def check_payload(body: bytes, push_type: str) -> None:
    """Raise Wrong unless the body is a JSON object with `aps`, small enough."""
    if len(body) > (LARGEST_VOIP if push_type == "voip" else LARGEST):
        raise Wrong(413, "PayloadTooLarge")
    try:
        payload: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        payload = None
    # mdm has no `aps`. Apple documents no other reason for an unreadable payload.
    if not isinstance(payload, dict) or not (isinstance(payload.get("aps"), dict) or push_type == "mdm"):
        raise Wrong(400, "PayloadEmpty")
