"""FCM's answers, byte for byte, and the outcomes that follow from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers._shared.fcm_answers import outcome
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Response

NOW = 1_800_000_000.0
TOKEN = {"token": "abc"}
TOPIC = {"topic": "news"}

NOT_FOUND = b"""{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND",\
"errors":[{"reason":"notFound"}]}}"""

UNREGISTERED = b"""{
  "error": {
    "code": 404,
    "message": "Requested entity was not found.",
    "status": "NOT_FOUND",
    "details": [
      {
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
        "errorCode": "UNREGISTERED"
      }
    ]
  }
}
"""

MALFORMED_TOKEN = b"""{
  "error": {
    "code": 400,
    "message": "The registration token is not a valid FCM registration token",
    "status": "INVALID_ARGUMENT",
    "details": [
      {
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
        "errorCode": "INVALID_ARGUMENT"
      }
    ]
  }
}
"""

DEVICE_QUOTA = b"""{
  "error": {
    "code": 429,
    "message": "Message rate limit exceeded for device",
    "status": "RESOURCE_EXHAUSTED",
    "details": [
      {
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
        "errorCode": "QUOTA_EXCEEDED"
      },
      {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
          {
            "subject": "device:bk3RNwTe3H0",
            "description": "Message rate limit exceeded for device"
          }
        ]
      }
    ]
  }
}
"""

SENDER_ID_MISMATCH = b"""{
  "error": {
    "code": 403,
    "message": "SenderId mismatch",
    "status": "PERMISSION_DENIED",
    "details": [
      {
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
        "errorCode": "SENDER_ID_MISMATCH"
      }
    ]
  }
}
"""

WRONG_PROJECT = b"""{
  "error": {
    "code": 403,
    "message": "Permission 'cloudmessaging.messages.create' denied on resource \
'//cloudresourcemanager.googleapis.com/projects/shop' (or it may not exist).",
    "status": "PERMISSION_DENIED"
  }
}
"""


def found(status: int, body: bytes, payload: dict[str, Any] = TOKEN) -> Outcome:
    return outcome(Response(status, {}, body), payload, NOW)


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, NOT_FOUND), (404, UNREGISTERED), (400, MALFORMED_TOKEN), (403, SENDER_ID_MISMATCH)],
)
@pytest.mark.parametrize("kind", ["token", "fid"])
def test_a_device_that_fcm_does_not_know_is_unregistered(status: int, body: bytes, kind: str) -> None:
    ended = found(status, body, {"topic": None, kind: "abc"})
    assert isinstance(ended, Unregistered)
    assert (ended.target, ended.status) == ("abc", status)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, NOT_FOUND, Unauthorised),
        (404, UNREGISTERED, Rejected),
        (400, MALFORMED_TOKEN, Rejected),
        (403, SENDER_ID_MISMATCH, Unauthorised),
    ],
)
@pytest.mark.parametrize("payload", [TOPIC, {"condition": "'a' in topics"}, {}])
def test_only_a_device_is_ever_unregistered(
    status: int, body: bytes, expected: type[Outcome], payload: dict[str, Any]
) -> None:
    assert isinstance(found(status, body, payload), expected)


def test_a_refusal_that_may_be_our_fault_names_its_target() -> None:
    for status, body in ((403, WRONG_PROJECT), (401, b"")):
        ended = found(status, body)
        assert isinstance(ended, Unauthorised)
        assert (ended.target, ended.unregistered) == ("abc", False)


@pytest.mark.parametrize(("payload", "gone"), [(TOKEN, True), (TOPIC, False)])
def test_another_404_makes_a_device_unregistered_if_fcm_accepts_others(
    payload: dict[str, Any], gone: bool
) -> None:
    ended = found(404, b'{"error":{"code":404,"message":"No such thing","status":"NOT_FOUND"}}', payload)
    assert isinstance(ended, Unauthorised)
    assert ended.unregistered is gone


@pytest.mark.parametrize("body", [b'{"name":"projects/shop/messages/1"}', b"", b"{}", b"{", b'{"name":null}'])
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_status_of_success_counts_with_any_body(status: int, body: bytes) -> None:
    name = "projects/shop/messages/1" if b"shop" in body else ""
    assert found(status, body) == Delivered(name)


def answer(
    status: int, name: str = "", code: str = "", field: str = "", headers: dict[str, str] | None = None
) -> Response:
    details: list[dict[str, Any]] = []
    if code:
        details.append({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    if field:
        violations = [{"field": field, "description": "bad"}]
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
    error = {"code": status, "message": "why", "status": name, "details": details}
    return Response(status, headers or {}, json.dumps({"error": error}).encode())


ANSWERS: list[tuple[Response, type[Outcome]]] = [
    (answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.token"), Unregistered),
    (answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.fid"), Unregistered),
    (answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.android.ttl"), Rejected),
    (answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.apns.live_activity_token"), Rejected),
    (answer(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Rejected),
    (answer(400, "INVALID_ARGUMENT"), Rejected),
    (answer(400, "FAILED_PRECONDITION"), Rejected),
    (answer(401, "UNAUTHENTICATED"), Unauthorised),
    (answer(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Retry),
    (answer(403, "PERMISSION_DENIED"), Unauthorised),
    (answer(404, "NOT_FOUND"), Unauthorised),
    (Response(404, {}, b"<html>not found</html>"), Retry),
    (answer(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), Throttled),
    (answer(429, "RESOURCE_EXHAUSTED"), Throttled),
    (Response(429, {}, b""), Throttled),
    (answer(500, "INTERNAL", "INTERNAL"), Retry),
    (Response(502, {}, b"<html>bad gateway</html>"), Retry),
    (answer(503, "UNAVAILABLE", "UNAVAILABLE"), Retry),
    (answer(503, "UNAVAILABLE", "UNAVAILABLE", headers={"retry-after": "7"}), Throttled),
    (answer(500, "INTERNAL", "UNSPECIFIED_ERROR"), Retry),
    (Response(418, {}, b"[1]"), Rejected),
    (Response(400, {}, b'{"error":{"details":[7,{"fieldViolations":[3]}]}}'), Rejected),
]


@pytest.mark.parametrize(("response", "expected"), ANSWERS)
def test_answers_by_their_error_code(response: Response, expected: type[Outcome]) -> None:
    assert isinstance(outcome(response, TOKEN, NOW), expected)


def test_a_quota_without_a_time_is_a_minute() -> None:
    ended = outcome(answer(429, "", "QUOTA_EXCEEDED"), TOKEN, NOW)
    assert isinstance(ended, Throttled)
    assert (ended.reason, ended.after) == ("429 QUOTA_EXCEEDED: why", 60.0)


def test_the_quota_of_one_device_makes_only_its_message_wait() -> None:
    reason = "429 QUOTA_EXCEEDED: Message rate limit exceeded for device"
    found = outcome(Response(429, {"retry-after": "42"}, DEVICE_QUOTA), TOKEN, NOW)
    assert found == Throttled(reason, 42.0, 429, DEVICE_QUOTA, "target")
    found = outcome(Response(429, {}, DEVICE_QUOTA), TOKEN, NOW)
    assert found == Throttled(reason, 60.0, 429, DEVICE_QUOTA, "target")


@pytest.mark.parametrize(
    "violations",
    [
        b'[{"subject": "project:123456", "description": "Message rate limit exceeded"}]',
        b'[{"subject": "topic:news"}]',
        b'[{"subject": "device:1"}, {"subject": "project:123456"}]',
        b'[{"description": "Topic quota exceeded."}]',
        b'[{"subject": ["device:1"]}]',
        b'["device:1"]',
        b'{"subject": "device:1"}',
        b"[]",
        b"7",
    ],
)
def test_any_other_quota_is_about_all_messages(violations: bytes) -> None:
    body = (
        b"""{"error": {"code": 429, "message": "Topic quota exceeded.", "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": %s}]}}"""
        % violations
    )
    found = outcome(Response(429, {}, body), TOPIC, NOW)
    assert isinstance(found, Throttled)
    assert found.scope == "provider"
