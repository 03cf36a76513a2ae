"""Apple Push Notification service, as its documentation describes it.

Source: https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import uuid4

import msgspec

from relay.sandbox.apns_channels import Channels
from relay.sandbox.apns_rules import (
    LIVE_ACTIVITY,
    SUFFIXES,
    TOKEN_ONLY,
    UUID,
    Wrong,
    check_headers,
    check_payload,
    check_unique,
)
from relay.sandbox.apns_token import TokenCheck
from relay.sandbox.exchange import Answer, Call, Received, Verdict, excerpt
from relay.sandbox.identity import CA, SIGNING_KEY, Identity
from relay.sandbox.options import SandboxOptions

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
"""The reason of an injected failure, by default."""

_DEVICE_PATH = "/3/device/"
_DEVICE = re.compile(r"(?:[0-9a-fA-F]{2}){32,512}")
_TOPIC = re.compile(r"[A-Za-z0-9.-]+")


class ApnsEmulator:
    """Accepts pushes to one app and its channels, by provider token or by certificate.

    It is reached over HTTP/2 only, so it has no routes.
    """

    name = "apns"
    routes = ()
    gone = 410

    def __init__(
        self, options: SandboxOptions, identity: Identity, clock: Callable[[], float] = time.time
    ) -> None:
        self._options, self._identity, self._clock = options, identity, clock
        self._tokens = TokenCheck(identity.public_key(), options.apns_key_id, options.apns_team_id, clock)
        self._channels = Channels(options.apns_topic)

    def judge(self, call: Call) -> Verdict:
        """Check the path first, then the sender, the headers, the device or channel, and the payload."""
        if call.path.startswith(("/1/", "/4/")):
            return self._judge_channel(call)
        headers = call.headers
        given = headers.get("apns-id", "").lower()
        apns_id = {"apns-id": given if UUID.fullmatch(given) else str(uuid4())}
        device = call.path.removeprefix(_DEVICE_PATH)
        messages = (Received(device, headers.get("apns-push-type", ""), given, excerpt(call.body)),)
        try:
            if not call.path.startswith(_DEVICE_PATH) or "/" in device or any(call.query.items()):
                raise Wrong(404, "BadPath")
            if call.method != "POST":
                raise Wrong(405, "MethodNotAllowed")
            self._tokens.check(call)
            check_unique(headers)
            push_type = check_headers(headers)
            self._check_topic(call, push_type)
            if not device:
                raise Wrong(400, "MissingDeviceToken")
            if not _DEVICE.fullmatch(device):
                raise Wrong(400, "BadDeviceToken")
            check_payload(call.body, push_type)
        except Wrong as error:
            return Verdict(_refusal(error.status, str(error), apns_id), messages)
        return Verdict(Answer(200, headers={**apns_id, "apns-unique-id": str(uuid4())}), messages)

    def _judge_channel(self, call: Call) -> Verdict:
        """A management request, which carries no message, or a push to a channel."""
        given = call.headers.get("apns-request-id", "").lower()
        request_id = {"apns-request-id": given if UUID.fullmatch(given) else str(uuid4())}
        messages: tuple[Received, ...] = ()
        if call.path.startswith("/4/"):
            channel = call.headers.get("apns-channel-id", "")
            messages = (Received(f"channel {channel}", LIVE_ACTIVITY, given, excerpt(call.body)),)
        try:
            self._tokens.check(call)
            check_unique(call.headers)
            if given and not UUID.fullmatch(given):
                raise Wrong(400, "BadMessageId")
            answer = self._channels.manage(call)
            if answer is None:
                if self._channels.broadcast(call) is None:
                    raise Wrong(404, "BadPath")
                answer = Answer(200, headers={"apns-unique-id": str(uuid4())})
        except Wrong as error:
            return Verdict(_refusal(error.status, str(error), request_id), messages)
        return Verdict(replace(answer, headers={**answer.headers, **request_id}), messages)

    def failed(self, injected: Answer, right: Answer, reason: str) -> Answer:
        """Return an injected failure with one of Apple's reasons."""
        why = reason or REASONS.get(injected.status, "")
        if not why:
            return injected
        ids = {name: right.headers[name] for name in ("apns-id", "apns-request-id") if name in right.headers}
        if "apns-request-id" in ids and injected.status == 410:
            return _refusal(400, "ChannelNotRegistered", ids)
        gone = self._clock() if injected.status == 410 else None
        return _refusal(injected.status, why, {**injected.headers, **ids}, gone)

    def settings(self, url: str) -> Mapping[str, object]:
        """Return the options of relay's APNs adapter that point here."""
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

    def _check_topic(self, call: Call, push_type: str) -> None:
        topic, by_token = call.headers.get("apns-topic"), "authorization" in call.headers
        if push_type in TOKEN_ONLY and not by_token:
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
        # The right app with the wrong suffix means a device token of another kind.
        raise Wrong(400, "DeviceTokenNotForTopic" if topic.startswith(own) else "TopicDisallowed")


def _refusal(status: int, reason: str, headers: Mapping[str, str], gone: float | None = None) -> Answer:
    """`gone`: since when the device is gone, in Unix seconds. Apple sends milliseconds."""
    document: dict[str, object] = {"reason": reason}
    if gone is not None:
        document["timestamp"] = int(gone * 1000)
    body = msgspec.json.encode(document)
    return Answer(status, body, "application/json", headers, last=reason == "Shutdown")
