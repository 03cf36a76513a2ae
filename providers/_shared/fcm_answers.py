"""The meaning of FCM's answers.

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay.outcome import Delivered, Outcome, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Response, statuses
from relay.provider.retry_after import retry_after

from .answers import json_object, reason
from .fcm_message import find_target

QUOTA_PAUSE = 60.0
"""Seconds to wait if a quota is used up and there is no Retry-After."""

OTHER_PLATFORM_PAUSE = 60.0
"""Seconds until the next attempt if the project's APNs or Web Push key is wrong. Android is not affected."""

_MALFORMED = "registration token is not a valid FCM registration token"
"""Google's words for a malformed token. Some answers do not name the field as well."""

_NO_SUCH_TARGET = "requested entity was not found"
"""Google's words for a token that it no longer knows. A wrong project is answered with 403."""

_DEVICE = "device:"
"""Beginning of the subject of a quota (google.rpc.QuotaFailure) that limits the messages to one device."""

_TARGET_FIELDS = frozenset({"message.token", "message.fid"})


@dataclass(frozen=True, slots=True)
class FcmError:
    """The error of an answer; empty if it has none.

    `code` is FCM's own error code, `status` Google's general one. `fields` are the fields that are at fault,
    `quotas` the subjects of the quotas that are used up, such as `device:…`.
    """

    code: str = ""
    status: str = ""
    message: str = ""
    fields: frozenset[str] = frozenset()
    quotas: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The more specific of the two codes."""
        return self.code or self.status


def outcome(response: Response, payload: dict[str, Any], now: float) -> Outcome:
    """Return the outcome of a message. `payload` may have no target."""
    status, body = response.status, response.body
    if 200 <= status < 300:
        return Delivered(str(json_object(body).get("name") or ""))
    error = read_error(response)
    why = f"{status} {error.name}: {error.message[:200]}" if error.name else reason(response)
    target = find_target(payload)
    address, is_device = target.value, target.is_device
    match error.name:
        case "UNREGISTERED" | "SENDER_ID_MISMATCH" if is_device:
            return Unregistered(address, why, status)
        case "INVALID_ARGUMENT" if is_device and (
            error.fields & _TARGET_FIELDS or _MALFORMED in error.message
        ):
            return Unregistered(address, why, status)
        case "NOT_FOUND" if is_device and _NO_SUCH_TARGET in error.message.lower():
            return Unregistered(address, why, status)
        case "NOT_FOUND":
            return Unauthorised(why, status, body, address, unregistered=is_device)
        case "UNAUTHENTICATED" | "PERMISSION_DENIED" | "SENDER_ID_MISMATCH":
            return Unauthorised(why, status, body, address)
        case "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED":
            return _throttled(response, error, why, now)
        case "THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR":
            return Retry(why, status, body, OTHER_PLATFORM_PAUSE)
    if status == 429:
        return _throttled(response, error, why, now)
    if status == 404 and not error.name:
        # A 404 in HTML comes from a proxy and is not about the message.
        return Retry(why, status, body)
    return statuses.outcome(response, why, now, ours=statuses.CREDENTIALS, target=address)


def read_error(response: Response) -> FcmError:
    """Read the error of an answer."""
    error = json_object(response.body).get("error")
    if not isinstance(error, dict):
        return FcmError()
    code, fields, quotas = "", set(), set()
    for detail in _objects(error.get("details")):
        if str(detail.get("@type", "")).endswith("FcmError"):
            code = str(detail.get("errorCode", ""))
        fields |= {str(violation.get("field", "")) for violation in _objects(detail.get("fieldViolations"))}
        quotas |= {str(violation.get("subject", "")) for violation in _objects(detail.get("violations"))}
    return FcmError(
        "" if code == "UNSPECIFIED_ERROR" else code,
        str(error.get("status") or ""),
        " ".join(str(error.get("message") or "").split()),
        frozenset(fields),
        frozenset(quotas),
    )


def _throttled(response: Response, error: FcmError, why: str, now: float) -> Throttled:
    after = retry_after(response.headers, now)
    is_about_device = bool(error.quotas) and all(quota.startswith(_DEVICE) for quota in error.quotas)
    return Throttled(
        why,
        QUOTA_PAUSE if after is None else after,
        response.status,
        response.body,
        "target" if is_about_device else "provider",
    )


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
