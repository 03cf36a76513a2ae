"""APNs' answers, byte for byte, and the outcomes that follow from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from providers._shared.apns_answers import outcome
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Response

DEVICE = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"
NOW = 1_800_000_000.0
APNS_ID = "eabeae54-14a8-11e5-b60b-1697f925ec7b"

OUTCOMES: dict[str, type[Outcome]] = {
    "rejected": Rejected,
    "unregistered": Unregistered,
    "unauthorised": Unauthorised,
    "retry": Retry,
    "throttled": Throttled,
}
PAGE = (Path(__file__).parents[3] / "docs/reference/providers/apns.md").read_text()
TABLE = [
    (int(status), reason, OUTCOMES[ended])
    for status, reasons, ended in re.findall(r"^\| (\d{3}) \| ([A-Za-z, ]+) \| ([a-z]+)", PAGE, re.MULTILINE)
    for reason in reasons.split(", ")
]
ANSWERS = [
    *TABLE,
    (400, "SomethingNew", Rejected),
    (403, "SomethingNew", Unauthorised),
    (408, "SomethingNew", Retry),
    (410, "SomethingNew", Unregistered),
    (429, "SomethingNew", Throttled),
    (500, "", Retry),
    (503, "Service Unavailable", Retry),
]


def found(status: int, body: bytes, *, own_topic: bool = False) -> Outcome:
    return outcome(Response(status, {}, body), DEVICE, NOW, own_topic=own_topic)


def test_the_page_lists_every_reason_that_apple_documents_once() -> None:
    reasons = [reason for _, reason, _ in TABLE]
    assert len(reasons) == len(set(reasons)) == 33 + 8, "33 of pushes to devices, 8 more of broadcasts"


@pytest.mark.parametrize(("status", "why", "expected"), ANSWERS)
def test_answers_by_their_reason(status: int, why: str, expected: type[Outcome]) -> None:
    assert isinstance(found(status, json.dumps({"reason": why}).encode()), expected)


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"reason":'])
def test_a_status_of_success_counts_with_any_body(status: int, body: bytes) -> None:
    for headers in ({"apns-id": APNS_ID}, {"apns-request-id": APNS_ID}):
        assert outcome(Response(status, headers, body), DEVICE, NOW, own_topic=False) == Delivered(APNS_ID)
    assert found(status, body) == Delivered()


def test_a_device_that_is_gone_is_gone_since_then() -> None:
    ended = found(410, b'{"reason":"Unregistered","timestamp":1700000000123}')
    assert ended == Unregistered(DEVICE, "410 Unregistered", 410, 1_700_000_000.123)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"reason":"BadDeviceToken"}'),
        (400, b'{"reason":"DeviceTokenNotForTopic"}'),
        (410, b'{"reason":"ExpiredToken","timestamp":1700000000123}'),
    ],
)
def test_a_token_that_apns_does_not_accept_is_unregistered(status: int, body: bytes) -> None:
    ended = found(status, body)
    assert isinstance(ended, Unregistered)
    assert ended.target == DEVICE


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"reason":"TopicDisallowed"}'),
        (400, b'{"reason":"BadTopic"}'),
        (400, b'{"reason":"FeatureNotEnabled"}'),
        (403, b'{"reason":"TopicMismatch"}'),
    ],
)
def test_a_refused_topic_may_be_our_fault_unless_the_message_brought_it(status: int, body: bytes) -> None:
    ended = found(status, body)
    assert isinstance(ended, Unauthorised)
    assert (ended.target, ended.unregistered) == (DEVICE, False)
    assert isinstance(found(status, body, own_topic=True), Rejected)


def test_refused_credentials_may_be_our_fault_with_any_topic() -> None:
    body = b'{"reason":"InvalidProviderToken"}'
    assert isinstance(found(403, body, own_topic=True), Unauthorised)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b'{"reason":null}'])
def test_an_answer_without_a_reason_goes_by_its_status(body: bytes) -> None:
    assert isinstance(found(502, body), Retry)
    assert isinstance(found(403, body), Unauthorised)
    assert isinstance(found(400, body), Rejected)
