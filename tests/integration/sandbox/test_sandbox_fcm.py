"""The emulators of FCM and of Google's token endpoint: their checks, and relay's adapter against them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from firebase_admin import messaging
from firebase_admin._messaging_encoder import MessageEncoder
from google.oauth2 import service_account
from multidict import CIMultiDict

from relay.outcome import Delivered, Unauthorised
from relay.sandbox import fcm_account, fcm_message
from relay.sandbox.exchange import Answer, Call
from relay.sandbox.faults import failure
from relay.sandbox.fcm import FcmEmulator
from relay.sandbox.fcm_oauth import GRANT, OAuthEmulator
from relay.sandbox.identity import Identity
from relay.sandbox.options import Faults
from relay.sandbox.server import Sandbox
from tests.integration.sandbox.conftest import fcm

NOW = 1_800_000_000
HOST = "127.0.0.1:8089"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


@pytest.fixture(scope="module")
def account(identity: Identity) -> fcm_account.Account:
    return fcm_account.read(identity.account)


# The token endpoint


def assertion(identity: Identity, key: Any = None, **claims: Any) -> str:
    file = json.loads(identity.account)
    header = {"kid": claims.pop("kid", file["private_key_id"])}
    made = {
        "iss": file["client_email"],
        "scope": SCOPE,
        "aud": file["token_uri"],
        "iat": NOW,
        "exp": NOW + 3600,
        **claims,
    }
    text = json.dumps({name: value for name, value in made.items() if value is not None}).encode()
    return jwt.PyJWS().encode(text, key or signer(file["private_key"]), "RS256", headers=header)


@lru_cache(maxsize=1)
def signer(pem: str) -> Any:
    """The key, read once, because reading takes longer than signing."""
    return load_pem_private_key(pem.encode(), None)


def ask(identity: Identity, body: bytes, now: float = NOW, method: str = "POST", form: str = "") -> Answer:
    headers = {"host": HOST, "content-type": form or "application/x-www-form-urlencoded"}
    call = Call(method, "/token", {}, CIMultiDict(headers), body)
    return OAuthEmulator(identity, lambda: now).judge(call).answer


def granted(identity: Identity, **claims: Any) -> Answer:
    return ask(
        identity, urlencode({"grant_type": GRANT, "assertion": assertion(identity, **claims)}).encode()
    )


def test_a_valid_assertion_gets_a_token_for_an_hour(identity: Identity, account: fcm_account.Account) -> None:
    answer = granted(identity)
    document = json.loads(answer.body)
    assert (answer.status, document["expires_in"], document["token_type"]) == (200, 3599, "Bearer")
    token = document["access_token"]
    assert account.knows(token, NOW + 3598)
    for wrong, now in (
        (token, NOW + 3599),
        (token[:-1], NOW),
        (f"{token}ж", NOW),
        ("", NOW),
        ("ya29.c.9.", NOW),
    ):
        assert not account.knows(wrong, now)


@pytest.mark.parametrize(
    ("claims", "error", "why"),
    [
        ({"iss": "somebody@example.com"}, "invalid_grant", "account not found"),
        ({"kid": "another"}, "invalid_grant", "kid is not"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "invalid_grant", "signed by another key"),
        ({"iat": NOW - 3600, "exp": NOW}, "invalid_grant", "short-lived token"),
        ({"iat": NOW + 301}, "invalid_grant", "short-lived token"),
        ({"exp": NOW + 3601}, "invalid_grant", "short-lived token"),
        ({"exp": None}, "invalid_grant", "exp must be Unix seconds"),
        ({"iat": "now"}, "invalid_grant", "iat must be Unix seconds"),
        ({"aud": "https://example.com/token"}, "invalid_grant", "aud must be"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope", "Invalid OAuth scope"),
        ({"scope": None}, "invalid_scope", "Invalid OAuth scope"),
    ],
)
def test_an_assertion_belongs_to_the_account_and_to_this_hour(
    identity: Identity, claims: dict[str, Any], error: str, why: str
) -> None:
    answer = granted(identity, **claims)
    document = json.loads(answer.body)
    assert (answer.status, document["error"]) == (400, error)
    assert why in document["error_description"]


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": f"http://{HOST}/token"},
        {"aud": f"https://{HOST}/token"},
        {"scope": f"openid {SCOPE}"},
        {"scope": "https://www.googleapis.com/auth/cloud-platform"},
        {"iat": NOW + 60, "exp": NOW + 120},
    ],
)
def test_assertions_that_google_allows_are_accepted(identity: Identity, claims: dict[str, Any]) -> None:
    assert granted(identity, **claims).status == 200


@pytest.mark.parametrize(
    ("differing", "status", "error"),
    [
        ({"method": "GET"}, 405, "invalid_request"),
        ({"form": "application/json"}, 400, "invalid_request"),
        ({"body": b"grant_type=password"}, 400, "unsupported_grant_type"),
        ({"body": b"\xff"}, 400, "unsupported_grant_type"),
        ({"body": urlencode({"grant_type": GRANT}).encode()}, 400, "invalid_request"),
        ({"body": urlencode({"grant_type": GRANT, "assertion": "a.b.c"}).encode()}, 400, "invalid_grant"),
    ],
)
def test_a_grant_is_a_form(identity: Identity, differing: dict[str, Any], status: int, error: str) -> None:
    answer = ask(identity, **{"body": b"", **differing})
    assert (answer.status, json.loads(answer.body)["error"]) == (status, error)


# Requests


def send(identity: Identity, account: fcm_account.Account, body: Any = None, **differing: Any) -> Answer:
    document = {"message": {"token": "device-1"}} if body is None else body
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {
        "authorization": f"Bearer {account.grant(NOW)}",
        "content-type": "application/json",
        **differing.get("headers", {}),
    }
    path = differing.get("path", f"/v1/projects/{account.project}/messages:send")
    call = Call(differing.get("method", "POST"), path, {}, CIMultiDict(headers), raw)
    return FcmEmulator(identity, lambda: differing.get("now", NOW)).judge(call).answer


def test_a_message_gets_a_name_and_a_dry_run_gets_a_fake_one(
    identity: Identity, account: fcm_account.Account
) -> None:
    names = [json.loads(send(identity, account).body)["name"] for _ in range(2)]
    assert names[0].startswith("projects/relay-sandbox/messages/")
    assert names[0] != names[1]
    for spelling in ("validate_only", "validateOnly"):
        answer = send(identity, account, {"message": {"token": "a"}, spelling: True})
        assert json.loads(answer.body)["name"] == "projects/relay-sandbox/messages/fake_message_id"


def error_of(answer: Answer) -> tuple[int, str, str, str]:
    """The HTTP status, Google's status, FCM's own code, and the field at fault."""
    error = json.loads(answer.body)["error"]
    assert error["code"] == answer.status
    code = field = ""
    for detail in error.get("details", ()):
        code = detail.get("errorCode", code)
        field = detail["fieldViolations"][0]["field"] if "fieldViolations" in detail else field
    return answer.status, error["status"], code, field


@pytest.mark.parametrize(
    ("differing", "found"),
    [
        ({"headers": {"authorization": ""}}, (401, "UNAUTHENTICATED", "", "")),
        ({"headers": {"authorization": "Basic abc"}}, (401, "UNAUTHENTICATED", "", "")),
        ({"now": NOW + 3599}, (401, "UNAUTHENTICATED", "", "")),
        ({"path": "/v1/projects/other/messages:send"}, (403, "PERMISSION_DENIED", "", "")),
        ({"path": "/v1/projects/relay-sandbox/messages:list"}, (404, "NOT_FOUND", "", "")),
        ({"method": "GET"}, (405, "UNIMPLEMENTED", "", "")),
        ({"headers": {"content-type": "text/plain"}}, (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "")),
        ({"body": b"{"}, (400, "INVALID_ARGUMENT", "", "")),
        ({"body": b"\xff"}, (400, "INVALID_ARGUMENT", "", "")),
        ({"body": []}, (400, "INVALID_ARGUMENT", "", "")),
        ({"body": {"messages": {}}}, (400, "INVALID_ARGUMENT", "", "")),
        ({"body": {"message": []}}, (400, "INVALID_ARGUMENT", "", "message")),
        ({"body": {"message": {}, "validate_only": 1}}, (400, "INVALID_ARGUMENT", "", "validate_only")),
        ({"body": {}}, (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message")),
        (
            {"body": {"message": {"token": "no token"}}},
            (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "message.token"),
        ),
    ],
)
def test_a_wrong_request_is_refused_in_google_s_form(
    identity: Identity,
    account: fcm_account.Account,
    differing: dict[str, Any],
    found: tuple[int, str, str, str],
) -> None:
    assert error_of(send(identity, account, **differing)) == found


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"topic": "x"}, "message"),
        ({"data": {"n": 1}}, "message.data.n"),
        ({"data": {"from": "x"}}, "message.data"),
        ({"data": {"message_type": "x"}}, "message.data"),
        ({"data": {"google.x": "x"}}, "message.data"),
        ({"data": {"gcm_x": "x"}}, "message.data"),
        ({"data": "x"}, "message.data"),
        ({"notification": {"titel": "x"}}, "message.notification"),
        ({"notification": {"title": 1}}, "message.notification.title"),
        ({"sound": "x"}, "message"),
        ({"android": {"ttl": 3600}}, "message.android.ttl"),
        ({"android": {"ttl": "3600"}}, "message.android.ttl"),
        ({"android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"android": {"ttl": "-1s"}}, "message.android.ttl"),
        ({"android": {"priority": "urgent"}}, "message.android.priority"),
        ({"android": {"data": {"from": "x"}}}, "message.android.data"),
        ({"apns": {"headers": {"apns-priority": 10}}}, "message.apns.headers.apns-priority"),
        ({"apns": {"payload": "x"}}, "message.apns.payload"),
        ({"webpush": {"headers": {"TTL": 60}}}, "message.webpush.headers.TTL"),
        ({"webpush": {"fcm_options": {"link": "http://example.com"}}}, "message.webpush.fcm_options.link"),
        ({"apns": {"live_activity_token": 7}}, "message.apns.live_activity_token"),
        ({"fid": "x"}, "message"),
        ({"fcm_options": {"analytics_label": "a b"}}, "message.fcm_options.analytics_label"),
        ({"fcm_options": {"analytics_label": "x" * 51}}, "message.fcm_options.analytics_label"),
        ({"data": {"k": "x" * 4096}}, "message"),
    ],
)
def test_a_wrong_part_is_named(part: dict[str, Any], field: str) -> None:
    with pytest.raises(fcm_message.Wrong) as caught:
        fcm_message.read({"token": "device-1", **part})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({}, "message"),
        ({"token": ""}, "message"),
        ({"token": 1}, "message.token"),
        ({"topic": "/topics/a"}, "message.topic"),
        ({"topic": "a b"}, "message.topic"),
        ({"condition": "'a' in topic"}, "message.condition"),
        ({"condition": "'a' in topics &&"}, "message.condition"),
        ({"condition": "('a' in topics"}, "message.condition"),
        ({"condition": " || ".join(["'a' in topics"] * 6)}, "message.condition"),
        ({"topic": "a", "data": {"k": "x" * 2048}}, "message"),
    ],
)
def test_a_wrong_target_is_named(target: dict[str, Any], field: str) -> None:
    with pytest.raises(fcm_message.Wrong) as caught:
        fcm_message.read(target)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "message",
    [
        {"token": "a:b_c-d", "data": {"k": "x" * 4095}},
        {"fid": "cIDmn0"},
        {"fid": "cIDmn0", "apns": {"liveActivityToken": "80ae", "payload": {"aps": {"event": "end"}}}},
        {"topic": "news-1.%~", "data": {"k": "x" * 2047}},
        {"condition": "'a' in topics && ('b' in topics || !('c' in topics))"},
        {"token": "a", "android": {"ttl": "3.5s", "collapseKey": "x", "directBootOk": True}},
        {"token": "a", "android": {"ttl": "0s", "collapse_key": "x", "priority": "high"}},
        {"token": "a", "notification": None, "webpush": {"fcmOptions": {"link": "https://example.com"}}},
        {"token": "a", "apns": {"headers": {"apns-priority": "5"}, "payload": {"aps": {}}}},
    ],
)
def test_documented_messages_are_accepted(message: dict[str, Any]) -> None:
    fcm_message.read(message)


@pytest.mark.parametrize(
    ("part", "silent"),
    [
        ({"data": {"n": "1"}}, True),
        ({"apns": {"payload": {"aps": {"content-available": 1}}}}, True),
        ({"notification": {"title": "x"}}, False),
        ({"apns": {"payload": {"aps": {"alert": "x"}}}}, False),
        ({"apns": {"live_activity_token": "t", "payload": {"aps": {"event": "update"}}}}, False),
    ],
)
def test_a_silent_push_must_not_have_apns_highest_priority(part: dict[str, Any], silent: bool) -> None:
    block = {"apns": {**part.get("apns", {}), "headers": {"apns-priority": "10"}}}
    message = fcm_message.read({"token": "a", **part, **block})
    assert fcm_message.is_silent_with_high_priority(message) == silent
    lower = {"apns": {**part.get("apns", {}), "headers": {"apns-priority": "5"}}}
    assert not fcm_message.is_silent_with_high_priority(fcm_message.read({"token": "a", **part, **lower}))


OFFICIAL = [
    messaging.Message(
        fid="cIDmn0Fh3kGtTpP7vTcH8n",
        android=messaging.AndroidConfig(bandwidth_constrained_ok=True, restricted_satellite_ok=True),
        apns=messaging.APNSConfig(
            headers={"apns-priority": "10"},
            live_activity_token="80ae6bf1",
            payload=messaging.APNSPayload(
                messaging.Aps(custom_data={"event": "update", "timestamp": 1, "content-state": {}})
            ),
        ),
    ),
    messaging.Message(topic="a", notification=messaging.Notification("Hi", "There", "https://example.com/a")),
    messaging.Message(topic="news", data={"k": "v"}, fcm_options=messaging.FCMOptions("label")),
    messaging.Message(
        condition="'a' in topics || 'b' in topics",
        android=messaging.AndroidConfig(
            collapse_key="x",
            priority="high",
            ttl=3600,
            restricted_package_name="com.example",
            data={"k": "v"},
            notification=messaging.AndroidNotification(title="Hi", tag="x", default_sound=True),
            fcm_options=messaging.AndroidFCMOptions("label"),
            direct_boot_ok=True,
        ),
    ),
    messaging.Message(
        topic="a",
        apns=messaging.APNSConfig(
            headers={"apns-priority": "5"},
            payload=messaging.APNSPayload(
                messaging.Aps(alert="Hi", badge=1, content_available=True), order=1
            ),
            fcm_options=messaging.APNSFCMOptions("label", "https://example.com/a"),
        ),
        webpush=messaging.WebpushConfig(
            headers={"Urgency": "high"},
            data={"k": "v"},
            notification=messaging.WebpushNotification("Hi", actions=[]),
            fcm_options=messaging.WebpushFCMOptions("https://example.com"),
        ),
    ),
]


@pytest.mark.parametrize("message", OFFICIAL)
def test_messages_of_the_official_library_are_accepted(message: messaging.Message) -> None:
    fcm_message.read(MessageEncoder().default(message))


# Over sockets


async def test_a_message_arrives_over_http2_and_is_shown(sandbox: Sandbox) -> None:
    async with fcm(sandbox) as sender:
        assert "FCM accepts our access token" in await sender.adapter.verify()
        outcome = await sender.push({"notification": {"title": "Hi"}})
    assert isinstance(outcome, Delivered)
    assert outcome.provider_id.startswith("projects/relay-sandbox/messages/")
    entry = sandbox.request_log.latest()[0]
    assert (entry["provider"], entry["target"], entry["event"]) == ("fcm", "device-1", "notification")
    assert '"title": "Hi"' in entry["body"] or '"title":"Hi"' in entry["body"]
    assert sandbox.request_log.stats()["oauth"]["requests"] == 1


async def test_the_token_endpoint_has_faults_of_its_own(sandbox: Sandbox) -> None:
    down = OAuthEmulator(sandbox.identity).failed(failure(503, 9), Answer(200), "")
    assert (json.loads(down.body)["error"], down.headers) == ("server_error", {"Retry-After": "9"})
    async with fcm(sandbox) as sender:
        sandbox.fault_injector.replace(Faults(provider="oauth", status=400))
        found = await sender.push()
        assert isinstance(found, Unauthorised)
        assert "invalid_grant" in found.reason
    # A token request contains no message, so no device can be gone.
    sandbox.fault_injector.replace(Faults(provider="oauth", unregistered=1.0))
    async with fcm(sandbox) as sender:
        assert isinstance(await sender.push(), Delivered)


def test_a_failure_with_a_status_that_google_does_not_use_is_html(identity: Identity) -> None:
    answer = FcmEmulator(identity).failed(failure(504, 3), Answer(200), "")
    assert (answer.content_type, answer.headers) == ("text/html", {"Retry-After": "3"})


async def test_google_s_own_library_gets_a_token(user: Any) -> None:
    """It builds the request and our client sends it, because it does not support asyncio."""
    file = json.loads(user.sandbox.identity.account) | {"token_uri": f"{user.sandbox.url}/token"}
    account: Any = service_account.Credentials  # has no types
    credentials = account.from_service_account_info(file, scopes=[SCOPE])
    assertion = credentials._make_authorization_grant_assertion()  # noqa: SLF001 - no public way
    form = {"grant_type": GRANT, "assertion": assertion.decode()}
    status, _, text = await user.ask("POST", "/token", data=form)
    assert status == 200, text
    headers = {"authorization": f"Bearer {json.loads(text)['access_token']}"}
    path = "/v1/projects/relay-sandbox/messages:send"
    message = {"message": MessageEncoder().default(OFFICIAL[0])}
    assert (await user.ask("POST", path, json=message, headers=headers))[0] == 200
    assert (await user.ask("POST", path, json=message))[0] == 401
