"""Apple Push Notification service, as its documentation describes it.

Source: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import msgspec

from relay.sandbox.apns_token import OLDEST, issued_at
from relay.sandbox.exchange import Answer, Call, Received, Verdict, excerpt
from relay.sandbox.identity import CA, SIGNING_KEY, Identity
from relay.sandbox.jws import InvalidToken
from relay.sandbox.options import SandboxOptions

LARGEST, LARGEST_VOIP = 4096, 5120
"""Bytes of a payload."""

BETWEEN_UPDATES = 1200
"""Seconds for which a connection must stay with a token that it has changed to."""

CONNECTIONS = 10_000
"""Connections whose tokens are remembered."""

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
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
}
"""The push types, and what each adds to the app's bundle id in the topic."""

_TOKEN_ONLY = ("location", "liveactivity")

REASONS = {
    400: "BadDeviceToken",
    403: "InvalidProviderToken",
    404: "BadPath",
    405: "MethodNotAllowed",
    410: "Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
"""What a failure by order says, where the order does not."""

_PATH = "/3/device/"
_DEVICE = re.compile(r"(?:[0-9a-fA-F]{2}){32,100}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,15}")
_TOPIC = re.compile(r"[A-Za-z0-9.-]+")


class Wrong(Exception):
    """What APNs answers to a request that is wrong: `status` and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ApnsEmulator:
    """Takes pushes to one app, by provider token or by certificate. Over HTTP/2 only: it has no routes."""

    name = "apns"
    routes = ()
    gone = 410

    def __init__(
        self, options: SandboxOptions, identity: Identity, clock: Callable[[], float] = time.time
    ) -> None:
        self._options, self._identity, self._clock = options, identity, clock
        self._key = identity.public_key()
        self._issued: OrderedDict[str, int] = OrderedDict()
        self._tokens: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def judge(self, call: Call) -> Verdict:
        """Who asks is looked at first, then the headers, the device and the payload."""
        headers = call.headers
        given = headers.get("apns-id", "").lower()
        apns_id = given if _UUID.fullmatch(given) else str(uuid4())
        device = call.path.removeprefix(_PATH) if call.path.startswith(_PATH) else call.path
        messages = (Received(device, headers.get("apns-push-type", ""), given, excerpt(call.body)),)
        try:
            if not call.path.startswith(_PATH) or "/" in device or any(call.query.items()):
                raise Wrong(404, "BadPath")
            if call.method != "POST":
                raise Wrong(405, "MethodNotAllowed")
            self._check_sender(call)
            push_type = check_headers(headers)
            self._check_topic(call, push_type)
            if not device:
                raise Wrong(400, "MissingDeviceToken")
            if not _DEVICE.fullmatch(device):
                raise Wrong(400, "BadDeviceToken")
            check_payload(call.body, push_type)
        except Wrong as error:
            return Verdict(_refusal(error.status, str(error), apns_id), messages)
        return Verdict(Answer(200, headers={"apns-id": apns_id, "apns-unique-id": str(uuid4())}), messages)

    def failed(self, ordered: Answer, right: Answer, reason: str) -> Answer:
        """A failure by order, with a reason of Apple's."""
        why = reason or REASONS.get(ordered.status, "")
        if not why:
            return ordered
        gone = self._clock() if ordered.status == 410 else None
        return _refusal(ordered.status, why, right.headers["apns-id"], ordered.headers, gone)

    def settings(self, url: str) -> Mapping[str, object]:
        """The options of relay's APNs adapter that lead here."""
        options, identity = self._options, self._identity
        return {
            "type": "apns",
            "key_id": options.apns_key_id,
            "team_id": options.apns_team_id,
            "topic": options.apns_topic or "com.example.app",
            "url": url,
            **identity.option("key", SIGNING_KEY),
            **identity.option("ca", CA),
        }

    def _check_sender(self, call: Call) -> None:
        given = call.headers.get("authorization")
        if given is None:
            if not call.certified:
                raise Wrong(403, "MissingProviderToken")
            return
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer":
            raise Wrong(403, "InvalidProviderToken")
        age = self._clock() - self._issued_at(token)
        if age > OLDEST:
            raise Wrong(403, "ExpiredProviderToken")
        if age < -OLDEST:
            raise Wrong(403, "InvalidProviderToken")
        self._check_updates(call.connection, token)

    def _issued_at(self, token: str) -> int:
        # A token comes with many requests; its signature is looked at once.
        if token not in self._issued:
            options = self._options
            try:
                issued = issued_at(token, self._key, options.apns_key_id, options.apns_team_id)
            except InvalidToken as error:
                raise Wrong(403, "InvalidProviderToken") from error
            _remember(self._issued, token, issued)
        return self._issued[token]

    def _check_updates(self, connection: int, token: str) -> None:
        """Its first token is none of a connection's updates."""
        now = self._clock()
        known = self._tokens.get(connection)
        if known is None:
            _remember(self._tokens, connection, (token, -1.0))
        elif known[0] != token:
            if known[1] >= 0 and now - known[1] < BETWEEN_UPDATES:
                raise Wrong(429, "TooManyProviderTokenUpdates")
            _remember(self._tokens, connection, (token, now))

    def _check_topic(self, call: Call, push_type: str) -> None:
        topic, by_token = call.headers.get("apns-topic"), "authorization" in call.headers
        if push_type in _TOKEN_ONLY and not by_token:
            raise Wrong(403, "Forbidden")
        if topic is None:
            if by_token:
                raise Wrong(400, "MissingTopic")
            return
        if not _TOPIC.fullmatch(topic):
            raise Wrong(400, "BadTopic")
        own = self._options.apns_topic
        if not own or topic == own + SUFFIXES[push_type]:
            return
        # The right app under the wrong suffix is a device token of another kind.
        raise Wrong(400, "DeviceTokenNotForTopic" if topic.startswith(own) else "TopicDisallowed")


def check_headers(headers: Mapping[str, str]) -> str:
    """The push type. Raises Wrong for a header that is not as it must be."""
    names = [name.lower() for name in headers]
    if len(set(names)) < len(names):
        raise Wrong(400, "DuplicateHeaders")
    if not _UUID.fullmatch(headers.get("apns-id", "00000000-0000-0000-0000-000000000000")):
        raise Wrong(400, "BadMessageId")
    if not _SECONDS.fullmatch(headers.get("apns-expiration", "0")):
        raise Wrong(400, "BadExpirationDate")
    if len(headers.get("apns-collapse-id", "").encode("utf-8", "surrogateescape")) > 64:
        raise Wrong(400, "BadCollapseId")
    push_type = headers.get("apns-push-type", "alert")
    if push_type not in SUFFIXES:
        raise Wrong(400, "InvalidPushType")
    # Where none is given it is 10, but then Apple is lenient.
    priority = headers.get("apns-priority", "5")
    if priority not in ("10", "5", "1") or (push_type == "background" and priority == "10"):
        raise Wrong(400, "BadPriority")
    return push_type


def check_payload(body: bytes, push_type: str) -> None:
    """Raise Wrong unless the body is a JSON object with `aps`, small enough."""
    if len(body) > (LARGEST_VOIP if push_type == "voip" else LARGEST):
        raise Wrong(413, "PayloadTooLarge")
    try:
        payload: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        payload = None
    # mdm has no `aps`. Apple documents no other reason for what cannot be read.
    if not isinstance(payload, dict) or not (isinstance(payload.get("aps"), dict) or push_type == "mdm"):
        raise Wrong(400, "PayloadEmpty")


def _refusal(
    status: int,
    reason: str,
    apns_id: str,
    headers: Mapping[str, str] | None = None,
    gone: float | None = None,
) -> Answer:
    """`gone`: since when the device is, in Unix seconds; Apple says it in milliseconds."""
    document: dict[str, object] = {"reason": reason}
    if gone is not None:
        document["timestamp"] = int(gone * 1000)
    body = msgspec.json.encode(document)
    answered = {**(headers or {}), "apns-id": apns_id}
    return Answer(status, body, "application/json", answered, last=reason == "Shutdown")


def _remember(known: OrderedDict[Any, Any], key: object, value: object) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > CONNECTIONS:
        known.popitem(last=False)
