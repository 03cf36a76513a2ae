"""The checks of the APNs emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.exchange import Call, Verdict
from relay.sandbox.identity import Identity, identify
from relay.sandbox.options import SandboxOptions
from tests.integration.sandbox.conftest import DEVICE

NOW = 1_800_001_000.0
TOPIC = SandboxOptions.apns_topic
MESSAGE_ID = "0190a000-0000-7000-8000-000000000001"


def token(identity: Identity, issued: Any = NOW, kid: str = "", iss: str = "", **header: Any) -> str:
    options = SandboxOptions()
    issued = int(issued) if isinstance(issued, float) else issued
    claims = {"iss": iss or options.apns_team_id, "iat": issued}
    header = {"kid": kid or options.apns_key_id, **header}
    # PyJWS does not check the claims, some of which are wrong on purpose.
    body = json.dumps(claims).encode()
    return jwt.PyJWS().encode(body, identity.signing_key, header.pop("alg", "ES256"), headers=header)


class Judge:
    """An emulator with a fixed clock. `reason` is its answer to a request that differs in one thing."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.now = NOW
        self.emulator = ApnsEmulator(SandboxOptions(), identity, clock=lambda: self.now)

    def judge(
        self,
        headers: dict[str, str | None] | None = None,
        body: bytes = b'{"aps":{}}',
        path: str = f"/3/device/{DEVICE}",
        method: str = "POST",
        connection: int = 1,
        certified: bool = False,
    ) -> Verdict:
        authorization = f"bearer {token(self.identity)}"
        merged = {"authorization": authorization, "apns-topic": TOPIC, **(headers or {})}
        given = {name: value for name, value in merged.items() if value is not None}
        return self.emulator.judge(
            Call(method, path, {}, given, body, connection=connection, certified=certified)
        )

    def reason(self, **differing: Any) -> tuple[int, str]:
        answer = self.judge(**differing).answer
        return answer.status, json.loads(answer.body)["reason"] if answer.body else ""


@pytest.fixture
def judge(identity: Identity) -> Judge:
    return Judge(identity)


# Checks


def test_a_valid_push_is_accepted_and_its_id_returned(judge: Judge) -> None:
    verdict = judge.judge({"apns-id": MESSAGE_ID.upper(), "apns-push-type": "alert"}, b'{"aps":{"badge":1}}')
    assert (verdict.answer.status, verdict.answer.body) == (200, b"")
    assert verdict.answer.headers["apns-id"] == MESSAGE_ID
    assert verdict.messages == ((DEVICE, "alert", MESSAGE_ID, '{"aps":{"badge":1}}'),)
    made = judge.judge().answer.headers["apns-id"]
    assert len(made) == 36


@pytest.mark.parametrize(
    ("differing", "status", "reason"),
    [
        ({"method": "GET"}, 405, "MethodNotAllowed"),
        ({"path": "/3/devices/00"}, 404, "BadPath"),
        ({"path": f"/3/device/{DEVICE}/x"}, 404, "BadPath"),
        ({"path": "/3/device/"}, 400, "MissingDeviceToken"),
        ({"path": f"/3/device/{DEVICE}0"}, 400, "BadDeviceToken"),
        ({"path": "/3/device/00"}, 400, "BadDeviceToken"),
        ({"path": f"/3/device/{'x' * 64}"}, 400, "BadDeviceToken"),
        ({"headers": {"apns-id": "17"}}, 400, "BadMessageId"),
        ({"headers": {"apns-expiration": "soon"}}, 400, "BadExpirationDate"),
        ({"headers": {"apns-priority": "7"}}, 400, "BadPriority"),
        ({"headers": {"apns-priority": "10", "apns-push-type": "background"}}, 400, "BadPriority"),
        ({"headers": {"apns-collapse-id": "x" * 65}}, 400, "BadCollapseId"),
        ({"headers": {"apns-push-type": "loud"}}, 400, "InvalidPushType"),
        ({"headers": {"Apns-Topic": TOPIC}}, 400, "DuplicateHeaders"),
        ({"headers": {"apns-topic": None}}, 400, "MissingTopic"),
        ({"headers": {"apns-topic": "a b"}}, 400, "BadTopic"),
        ({"headers": {"apns-topic": "com.example.other"}}, 400, "TopicDisallowed"),
        ({"headers": {"apns-push-type": "voip"}}, 400, "DeviceTokenNotForTopic"),
        ({"headers": {"authorization": None}}, 403, "MissingProviderToken"),
        ({"headers": {"authorization": "basic abc"}}, 403, "InvalidProviderToken"),
        ({"body": b""}, 400, "PayloadEmpty"),
        ({"body": b"[]"}, 400, "PayloadEmpty"),
        ({"body": b'{"aps":1}'}, 400, "PayloadEmpty"),
        ({"body": b"\xff"}, 400, "PayloadEmpty"),
        ({"body": b" " * 4097}, 413, "PayloadTooLarge"),
    ],
)
def test_a_wrong_push_is_refused_with_apple_s_reason(
    judge: Judge, differing: dict[str, Any], status: int, reason: str
) -> None:
    assert judge.reason(**differing) == (status, reason)


def test_voip_may_be_larger_and_has_a_topic_of_its_own(judge: Judge) -> None:
    headers = {"apns-push-type": "voip", "apns-topic": f"{TOPIC}.voip"}
    assert judge.reason(headers=headers, body=b'{"aps":{}}'.ljust(5120)) == (200, "")
    assert judge.reason(headers=headers, body=b'{"aps":{}}'.ljust(5121)) == (413, "PayloadTooLarge")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"issued": NOW - 3600}, ""),
        ({"issued": NOW - 3601}, "ExpiredProviderToken"),
        ({"issued": NOW + 3600}, ""),
        ({"issued": NOW + 3601}, "InvalidProviderToken"),
        ({"issued": str(int(NOW))}, "InvalidProviderToken"),
        ({"issued": True}, "InvalidProviderToken"),
        ({"kid": "ANOTHERKEY"}, "InvalidProviderToken"),
        ({"iss": "ANOTHERONE"}, "InvalidProviderToken"),
    ],
)
def test_a_provider_token_is_valid_for_an_hour_around_its_issue(
    judge: Judge, claims: dict[str, Any], reason: str
) -> None:
    found = judge.reason(headers={"authorization": f"bearer {token(judge.identity, **claims)}"})
    assert found == ((403, reason) if reason else (200, ""))


def test_a_malformed_token_or_one_of_another_key_is_invalid(judge: Judge) -> None:
    other = identify(None, TOPIC)
    right = token(judge.identity)
    vectors = json.loads((Path(__file__).parents[2] / "vectors/push.json").read_text())
    printed = [vector["inputs"]["token"] for vector in vectors if vector["kind"] == "negative_example"]
    for wrong in (token(other), right[:-8], right + ".x", "a.b.c", "", "ж.ж.ж", *printed):
        assert judge.reason(headers={"authorization": f"bearer {wrong}"}) == (403, "InvalidProviderToken")


def test_a_connection_may_change_its_token_once_in_twenty_minutes(judge: Judge) -> None:
    def push(issued: float, connection: int = 1) -> tuple[int, str]:
        header = {"authorization": f"bearer {tokens[issued]}"}
        return judge.reason(headers=header, connection=connection)

    tokens = {issued: token(judge.identity, issued) for issued in (NOW, NOW - 1, NOW - 2)}
    assert push(NOW) == push(NOW) == push(NOW - 1) == (200, "")
    assert push(NOW - 2) == (429, "TooManyProviderTokenUpdates")
    assert push(NOW - 2, connection=2) == push(NOW - 1) == (200, "")
    judge.now += 1200
    assert push(NOW - 2) == (200, "")


def test_a_certificate_replaces_a_token_for_most_push_types(judge: Judge) -> None:
    certified = {"authorization": None, "apns-topic": None}
    assert judge.reason(headers=certified, certified=True) == (200, "")
    location = {**certified, "apns-push-type": "location"}
    assert judge.reason(headers=location, certified=True) == (403, "Forbidden")
