"""Broadcast channels of APNs: their management and the pushes to them.

Sources:
https://developer.apple.com/documentation/usernotifications/sending-channel-management-requests-to-apns,
https://developer.apple.com/documentation/usernotifications/sending-broadcast-push-notification-requests-to-apns
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import Any

import msgspec

from relay.sandbox.apns_rules import LIVE_ACTIVITY, SECONDS, SUFFIXES, Wrong
from relay.sandbox.exchange import Answer, Call

LARGEST = 5120
"""Bytes of the payload of a broadcast."""

MOST = 10_000
"""Channels of an app."""

LONGEST_ID = 256
"""Characters of a channel id."""

_MANAGEMENT = re.compile(r"/1/apps/([^/]+)/(channels|all-channels)")
_BROADCAST = re.compile(r"/4/broadcasts/apps/([^/]+)")


class Channels:
    """The channels of one app, by id, with their storage policy. They live until the sandbox stops."""

    def __init__(self, topic: str) -> None:
        """`topic` is the app's bundle id; if empty, every app is accepted."""
        self._topic = topic
        self._policies: dict[str, int] = {}

    def manage(self, call: Call) -> Answer | None:
        """Answer a management request; None if it is none. Raises Wrong."""
        path = _MANAGEMENT.fullmatch(call.path)
        if path is None:
            return None
        self._check_app(path[1])
        match call.method, path[2]:
            case "POST", "channels":
                return Answer(201, headers={"apns-channel-id": self._create(call.body)})
            case "GET", "channels":
                policy = self._policies[self._existing(call)]
                return _json({"message-storage-policy": policy, "push-type": "LiveActivity"})
            case "DELETE", "channels":
                del self._policies[self._existing(call)]
                return Answer(204)
            case "GET", "all-channels":
                return _json({"channels": list(self._policies)})
        raise Wrong(405, "MethodNotAllowed")

    def broadcast(self, call: Call) -> str | None:
        """Check a push to a channel and return the channel; None if the request is none. Raises Wrong."""
        path = _BROADCAST.fullmatch(call.path)
        if path is None:
            return None
        if call.method != "POST":
            raise Wrong(405, "MethodNotAllowed")
        self._check_app(path[1])
        channel = self._existing(call)
        headers = call.headers
        if "apns-push-type" not in headers:
            raise Wrong(400, "MissingPushType")
        if headers["apns-push-type"].lower() != LIVE_ACTIVITY:
            raise Wrong(400, "InvalidPushType")
        if headers.get("apns-priority") not in ("10", "5", "1"):
            raise Wrong(400, "BadPriority")
        expiration = headers.get("apns-expiration", "")
        if not SECONDS.fullmatch(expiration) or (not self._policies[channel] and int(expiration)):
            raise Wrong(400, "BadExpirationDate")
        _check_body(call.body)
        return channel

    def _check_app(self, bundle: str) -> None:
        if any(suffix and bundle.endswith(suffix) for suffix in SUFFIXES.values()):
            raise Wrong(400, "TopicDisallowed")
        if self._topic and bundle != self._topic:
            raise Wrong(403, "TopicMismatch")

    def _create(self, body: bytes) -> str:
        try:
            document: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Wrong(400, "BadRequestPayload")
        if "push-type" not in document:
            raise Wrong(400, "MissingPushType")
        if document["push-type"] != "LiveActivity":
            raise Wrong(400, "InvalidPushType")
        policy = document.get("message-storage-policy")
        if set(document) - {"push-type", "message-storage-policy"} or policy not in (0, 1):
            raise Wrong(400, "BadRequestParams")
        if len(self._policies) >= MOST:
            raise Wrong(400, "CannotCreateChannelConfig")
        channel = base64.b64encode(secrets.token_bytes(16)).decode()
        self._policies[channel] = int(policy)
        return channel

    def _existing(self, call: Call) -> str:
        channel = call.headers.get("apns-channel-id")
        if channel is None:
            raise Wrong(400, "MissingChannelId")
        try:
            base64.b64decode(channel, validate=True)
        except (binascii.Error, ValueError):
            raise Wrong(400, "BadChannelId") from None
        if len(channel) > LONGEST_ID:
            raise Wrong(400, "BadChannelId")
        if channel not in self._policies:
            raise Wrong(400, "ChannelNotRegistered")
        return channel


def _check_body(body: bytes) -> None:
    if not body:
        raise Wrong(400, "PayloadEmpty")
    if len(body) > LARGEST:
        raise Wrong(413, "PayloadTooLarge")
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Wrong(400, "BadRequestPayload") from None
    if not isinstance(document, dict) or not isinstance(document.get("aps"), dict):
        raise Wrong(400, "PayloadEmpty")


def _json(document: object) -> Answer:
    return Answer(200, msgspec.json.encode(document), "application/json")
