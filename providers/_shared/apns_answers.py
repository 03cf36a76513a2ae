"""The meaning of APNs' answers.

Sources:
https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns,
https://developer.apple.com/documentation/usernotifications/handling-error-responses-from-apns
"""

from __future__ import annotations

from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Response, statuses

from .answers import json_object

TOKEN_EXPIRED = "ExpiredProviderToken"  # noqa: S105
BAD_EXPIRATION = "BadExpirationDate"

_GONE = frozenset(
    {"BadDeviceToken", "DeviceTokenNotForTopic", "Unregistered", "ExpiredToken", "ChannelNotRegistered"}
)
_TOPICS = frozenset({"BadTopic", "MissingTopic", "TopicDisallowed", "TopicMismatch", "FeatureNotEnabled"})
"""Reasons about the topic. The message is at fault if it names the topic itself."""

_MAY_BE_OURS = _TOPICS | {
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

TARGET_PAUSE = 30.0
"""Seconds for which a message waits after TooManyRequests, which is about one device or channel."""

TOKEN_PAUSE = 60.0
"""Seconds for which the lane holds after TooManyProviderTokenUpdates."""


def reason_of(response: Response) -> tuple[str, float | None]:
    """Return the reason and, for a device that is gone, since when (Unix seconds)."""
    body = json_object(response.body)
    since = body.get("timestamp")
    return str(body.get("reason") or ""), since / 1000 if isinstance(since, int | float) else None


def delivered(response: Response) -> Delivered:
    """Return the outcome of an accepted push."""
    headers = response.headers
    return Delivered(headers.get("apns-id") or headers.get("apns-request-id") or "")


def outcome(response: Response, target: str, now: float, *, own_topic: bool) -> Outcome:
    """Return the outcome of a push to `target`. `own_topic`: the message names its topic itself."""
    status, body = response.status, response.body
    if 200 <= status < 300:
        return delivered(response)
    why, since = reason_of(response)
    line = f"{status} {why}".strip()
    if why in _GONE or status == 410:
        return Unregistered(target, line, status, since)
    if own_topic and why in _TOPICS:
        return Rejected(line, status, body)
    if why in _MAY_BE_OURS:
        return Unauthorised(line, status, body, target)
    match why:
        case "TooManyProviderTokenUpdates":
            return Throttled(line, TOKEN_PAUSE, status, body)
        case "Shutdown" | "IdleTimeout":
            return Retry(line, status, body, 1.0)
    if status == 429:
        return Throttled(line, TARGET_PAUSE, status, body, "target")
    return statuses.outcome(response, line, now, ours=statuses.CREDENTIALS, target=target)
