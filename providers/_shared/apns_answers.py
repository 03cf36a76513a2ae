"""What each of APNs' answers means.

Source: https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
"""

from __future__ import annotations

from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Response

from .answers import json_object

TOKEN_EXPIRED = "ExpiredProviderToken"  # noqa: S105

_GONE = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic", "Unregistered", "ExpiredToken"})
_OURS = frozenset(
    {
        "BadTopic",
        "MissingTopic",
        "TopicDisallowed",
        TOKEN_EXPIRED,
        "InvalidProviderToken",
        "MissingProviderToken",
        "UnrelatedKeyIdInToken",
        "BadEnvironmentKeyIdInToken",
        "BadEnvironmentKeyInToken",
        "BadCertificate",
        "BadCertificateEnvironment",
        "Forbidden",
    }
)
_TOPICS = frozenset({"BadTopic", "MissingTopic", "TopicDisallowed"})

DEVICE_PAUSE = 30.0
"""Seconds after TooManyRequests, which is about one device and not about us."""

TOKEN_PAUSE = 60.0
"""Seconds for which the lane holds after TooManyProviderTokenUpdates."""


def reason_of(response: Response) -> tuple[str, float | None]:
    """The reason and, of a device that is gone, since when (Unix seconds)."""
    body = json_object(response.body)
    since = body.get("timestamp")
    return str(body.get("reason", "")), since / 1000 if isinstance(since, int | float) else None


def outcome(response: Response, device: str, *, own_topic: bool) -> Outcome:
    """`own_topic`: the message brought its topic itself, so a bad one is its fault and not the file's."""
    status, body = response.status, response.body
    if status == 200:
        return Delivered(response.headers.get("apns-id", ""))
    why, since = reason_of(response)
    line = f"{status} {why}".strip()
    if why in _GONE or status == 410:
        return Unregistered(device, line, status, since)
    if why in _OURS:
        if own_topic and why in _TOPICS:
            return Rejected(line, status, body)
        return Unauthorised(line, status, body)
    match why:
        case "TooManyRequests":
            return Retry(line, status, body, DEVICE_PAUSE)
        case "TooManyProviderTokenUpdates":
            return Throttled(line, TOKEN_PAUSE, status, body)
        case "Shutdown" | "IdleTimeout":
            return Retry(line, status, body, 1.0)
    if status in {408, 429} or status >= 500 or status < 400:
        return Retry(line, status, body)
    if status == 403:
        return Unauthorised(line, status, body)
    return Rejected(line, status, body)
