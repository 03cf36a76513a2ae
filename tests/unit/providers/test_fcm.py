"""FCM: requests, limits, options and access tokens."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import firebase_admin
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from firebase_admin import credentials, messaging
from google.auth.credentials import AnonymousCredentials
from pydantic import ValidationError

from providers._shared.google_token import SCOPE, assertion_request
from providers._shared.oauth_tokens import QUIET, TokenRefused, Tokens, read_token
from providers._shared.upstream import topic
from providers.fcm import Fcm, FcmOptions, read_account
from relay.errors import TransportError, UsageError
from relay.message import Message, parse_envelope
from relay.outcome import Delivered, Rejected, Unauthorised
from relay.provider import Request, Response
from testing.canned import Canned
from testing.deliveries import DELIVERIES, Delivery

NOW = 1_800_000_000.0
TOKEN_URI = "https://oauth2.googleapis.com/token"


@cache
def keys() -> tuple[str, str]:
    """A private and a public key, PEM."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def account(**fields: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "k1",
        "private_key": keys()[0],
        "client_email": "relay@shop.iam.gserviceaccount.com",
        "token_uri": TOKEN_URI,
        **fields,
    }


def a_fcm(**fields: Any) -> Fcm:
    return Fcm(
        "fcm", FcmOptions(type="fcm", service_account=json.dumps(account()), **fields), clock=lambda: NOW
    )


def a_message(payload: dict[str, Any], **envelope: Any) -> Message:
    element = json.dumps({"id": "m1", **envelope, "payload": payload}).encode()
    return parse_envelope(element, "notifications", NOW)[1]


def sent(payload: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(a_fcm().request([a_message(payload, **envelope)]).body)["message"]
    return message


# Requests


def test_the_message_goes_out_as_the_application_wrote_it() -> None:
    payload = '{"token":"abc", "notification":{"title":"Ol\\u00e9"},"data":{"n":"1"}}'
    message = Message(id="a", queue="q", payload_json=payload.encode())
    request = a_fcm().request([message])
    assert request.url == "https://fcm.googleapis.com/v1/projects/shop/messages:send"
    assert request.body == b'{"message":' + payload.encode() + b"}"
    assert request.headers["x-goog-api-format-version"] == "2"


def test_the_fields_of_the_envelope_become_fcm_s_fields() -> None:
    payload = {"token": "abc", "notification": {"title": "Goal"}}
    found = sent(payload, ttl="90.7s", collapse_key="score", priority="high")
    assert found["android"] == {"ttl": "90s", "collapse_key": "score", "priority": "HIGH"}
    assert found["apns"]["headers"] == {
        "apns-expiration": str(int(NOW + 90.7)),
        "apns-collapse-id": "score",
        "apns-priority": "10",
    }
    assert found["webpush"]["headers"] == {"TTL": "90", "Topic": topic("score"), "Urgency": "high"}


@pytest.mark.parametrize(
    ("payload", "priority", "expected"),
    [
        ({"data": {"n": "1"}}, "high", None),
        ({"data": {"n": "1"}}, "low", None),
        ({"notification": None}, "high", None),
        ({"notification": {"title": "Goal"}}, "low", "5"),
        ({"apns": {"payload": {"aps": {"alert": "Goal"}}}}, "high", "10"),
        ({"apns": {"payload": {"aps": {"content-available": 1}}}}, "high", "5"),
        ({"apns": {"payload": {"aps": {"content-available": 1, "sound": "x"}}}}, "high", "10"),
        ({"apns": {"payload": None}}, "high", None),
        ({"apns": {"payload": "odd"}}, "high", None),
        ({"apns": {"payload": {"aps": {"event": "update", "content-state": {}}}}}, "high", "10"),
    ],
)
def test_a_push_that_shows_nothing_has_no_high_priority_at_apns(
    payload: dict[str, Any], priority: str, expected: str | None
) -> None:
    found = sent({"token": "abc", **payload}, priority=priority)
    assert found["apns"]["headers"].get("apns-priority") == expected
    assert found["android"]["priority"] in ("HIGH", "NORMAL")


def test_null_means_absent() -> None:
    absent = dict.fromkeys(("topic", "condition", "notification", "data", "android", "apns", "webpush"))
    payload = {"token": "abc", **absent, "fcm_options": None}
    assert a_fcm().check(a_message(payload)) is None
    found = sent(payload, ttl=60, collapse_key="score", priority="high")
    assert found["android"]["ttl"] == "60s"
    assert found["webpush"]["headers"]["TTL"] == "60"
    android = {"ttl": None, "collapseKey": None, "priority": None, "tag": "x"}
    headers = {"apns-expiration": None, "apns-collapse-id": "mine"}
    blocks = {"android": android, "apns": {"headers": headers}, "webpush": {"headers": None}}
    assert sent({"token": "abc", **blocks}, ttl=60, collapse_key="score") == {
        "token": "abc",
        "android": {"ttl": "60s", "collapse_key": "score", "tag": "x"},
        "apns": {"headers": {"apns-expiration": str(int(NOW + 60)), "apns-collapse-id": "mine"}},
        "webpush": {"headers": {"TTL": "60", "Topic": topic("score")}},
    }


def test_the_payload_wins_over_the_envelope_in_both_spellings() -> None:
    payload = {
        "token": "abc",
        "android": {"collapseKey": "mine", "ttl": "5s"},
        "apns": {"headers": {"apns-expiration": "0"}, "payload": {"aps": {}}},
    }
    found = sent(payload, ttl=60, collapse_key="score")
    assert found["android"] == {"collapseKey": "mine", "ttl": "5s"}
    assert found["apns"]["headers"] == {"apns-expiration": "0", "apns-collapse-id": "score"}
    assert found["apns"]["payload"] == {"aps": {}}


def test_the_remaining_lifetime_shrinks_with_each_attempt() -> None:
    now = NOW
    fcm = Fcm("fcm", FcmOptions(type="fcm", service_account=json.dumps(account())), clock=lambda: now)
    message = a_message({"token": "abc"}, ttl=60)
    assert json.loads(fcm.request([message]).body)["message"]["android"]["ttl"] == "60s"
    now += 45
    assert json.loads(fcm.request([message]).body)["message"]["android"]["ttl"] == "15s"


def test_a_dry_run_is_marked_as_one() -> None:
    body = a_fcm(validate_only=True).request([a_message({"topic": "news"})]).body
    assert json.loads(body) == {"message": {"topic": "news"}, "validate_only": True}


LIVE_ACTIVITY = messaging.Aps(
    alert=messaging.ApsAlert(title="Kick-off", body="Lions - Bears"),
    custom_data={
        "timestamp": 1_800_001_000,
        "event": "start",
        "attributes-type": "MatchAttributes",
        "attributes": {"home": "Lions"},
        "content-state": {"home": 0},
    },
)

OFFICIAL: dict[str, dict[str, Any]] = {
    "a notification": {
        "token": "abc",
        "notification": messaging.Notification(title="Hello", body="World"),
        "data": {"n": "1"},
        "android": messaging.AndroidConfig(collapse_key="score", ttl=90, priority="high"),
        "apns": messaging.APNSConfig(headers={"apns-priority": "10"}),
    },
    "an installation id": {
        "fid": "cIDmn0Fh3kGtTpP7vTcH8n",
        "data": {"n": "1"},
        "android": messaging.AndroidConfig(bandwidth_constrained_ok=True, restricted_satellite_ok=True),
    },
    "a Live Activity": {
        "fid": "cIDmn0Fh3kGtTpP7vTcH8n",
        "apns": messaging.APNSConfig(
            headers={"apns-priority": "10"},
            live_activity_token="80ae6bf1",
            payload=messaging.APNSPayload(LIVE_ACTIVITY),
        ),
    },
    "a topic": {"topic": "news", "webpush": messaging.WebpushConfig(headers={"Urgency": "high"})},
    "a condition": {"condition": "'a' in topics || 'b' in topics", "data": {"n": "1"}},
}


@pytest.mark.filterwarnings("ignore:Message.token is deprecated")
@pytest.mark.parametrize("fields", OFFICIAL.values(), ids=OFFICIAL)
def test_the_official_client_makes_the_same_request(fields: dict[str, Any]) -> None:
    """firebase-admin, run for real up to its HTTP session."""
    caught = request_of_the_official_client(messaging.Message(**fields))
    payload = caught["json"]["message"]
    message = a_message(payload)
    assert a_fcm().check(message) is None
    ours = a_fcm(validate_only=True).request([message])
    assert (caught["method"].upper(), caught["url"]) == (ours.method, ours.url)
    assert json.loads(ours.body) == caught["json"]
    theirs = {name.lower(): value for name, value in caught["headers"].items()}
    assert theirs["x-goog-api-format-version"] == ours.headers["x-goog-api-format-version"]


def request_of_the_official_client(message: messaging.Message) -> dict[str, Any]:
    class Anonymous(credentials.Base):  # type: ignore[misc]
        def get_credential(self) -> Any:
            return AnonymousCredentials()  # type: ignore[no-untyped-call]

    caught: dict[str, Any] = {}

    def session_request(self: Any, method: str, url: str, **keywords: Any) -> Any:
        caught.update(method=method, url=url, **keywords)
        raise InterruptedError

    app = firebase_admin.initialize_app(Anonymous(), {"projectId": "shop"}, name="differential")
    try:
        with (
            patch("google.auth.transport.requests.AuthorizedSession.request", session_request),
            pytest.raises(InterruptedError),
        ):
            messaging.send(message, dry_run=True, app=app)
    finally:
        firebase_admin.delete_app(app)
    return caught


# Limits


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ({}, "exactly one of"),
        ({"token": "a", "topic": "b"}, "not token and topic"),
        ({"token": ""}, "not empty"),
        ({"token": 7}, "must be a text"),
        ({"topic": "/topics/news"}, "no /topics/"),
        ({"token": "a", "data": {"n": 1}}, "data.n: must be a text"),
        ({"token": "a", "data": {"google.x": "1"}}, "reserved"),
        ({"token": "a", "data": []}, "must be an object"),
        ({"token": "a", "android": "high"}, "android: must be an object"),
        ({"fid": "a", "token": "b"}, "not token and fid"),
        ({"token": "a", "apns": {"headers": []}}, "apns.headers: must be an object"),
        ({"token": "a", "apns": {"headers": {"apns-priority": "10"}}}, "10 is only for a push that shows"),
        ({"token": "a", "data": {"n": "x" * 4096}}, "4097 bytes"),
        ({"topic": "a", "data": {"n": "x" * 2048}}, "2049 bytes"),
    ],
)
def test_a_message_that_fcm_would_refuse_is_refused_before_it_is_sent(
    payload: dict[str, Any], word: str
) -> None:
    refused = a_fcm().check(a_message(payload))
    assert isinstance(refused, Rejected)
    assert word in refused.reason


def test_the_largest_message_is_accepted() -> None:
    assert a_fcm().check(a_message({"token": "a", "data": {"n": "x" * 4095}})) is None


# Options


def test_targets_may_be_installation_ids() -> None:
    assert a_fcm().target_field == "token"
    assert a_fcm(target_field="fid").target_field == "fid"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "service_account_file: missing"),
        ({"service_account": "nonsense"}, "JSON of a service account"),
        ({"service_account": "{}"}, "client_email, private_key"),
        ({"credentials": "adc"}, "project_id: needed"),
    ],
)
def test_options_that_cannot_work_are_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        FcmOptions(type="fcm", **fields)


# Tokens


class Endpoint(Canned):
    """Google's token endpoint, and FCM."""

    def __init__(self) -> None:
        super().__init__(self._judge)
        self.tokens = 0
        self.refuse = 0
        self.token_answers: list[Response | Exception] = []

    def _judge(self, request: Request) -> Response | Exception:
        if "token" in request.url:
            if self.token_answers:
                return self.token_answers.pop(0)
            self.tokens += 1
            token = {"access_token": f"t{self.tokens}", "expires_in": 3600}
            return Response(200, {}, json.dumps(token).encode())
        if self.refuse:
            self.refuse -= 1
            return Response(401, {}, b'{"error":{"code":401,"status":"UNAUTHENTICATED"}}')
        return Response(200, {}, b"{}")


async def started(endpoint: Endpoint) -> Fcm:
    fcm = a_fcm()
    await fcm.start(endpoint)
    return fcm


def test_the_assertion_has_the_claims_that_google_requires() -> None:
    request = assertion_request(account(), TOKEN_URI, NOW)
    assertion = request.body.decode().partition("assertion=")[2]
    claims = jwt.decode(
        assertion,
        keys()[1],
        algorithms=["RS256"],
        audience=TOKEN_URI,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "iss": "relay@shop.iam.gserviceaccount.com",
        "scope": SCOPE,
        "aud": TOKEN_URI,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
    }
    assert jwt.get_unverified_header(assertion) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}


async def test_one_token_serves_all_senders() -> None:
    endpoint = Endpoint()
    fcm = await started(endpoint)
    message = a_message({"token": "a"})
    ends = await asyncio.gather(*(fcm.deliver([message]) for _ in range(50)))
    assert all(isinstance(end[0], Delivered) for end in ends)
    assert endpoint.tokens == 1
    assert {r.headers["authorization"] for r in endpoint.requests if "token" not in r.url} == {"Bearer t1"}


@pytest.mark.parametrize("deliver", DELIVERIES)
async def test_a_refused_token_is_renewed_once(deliver: Delivery) -> None:
    endpoint = Endpoint()
    fcm = await started(endpoint)
    assert isinstance(await deliver(fcm, a_message({"token": "a"})), Delivered)
    endpoint.refuse = 1
    assert isinstance(await deliver(fcm, a_message({"token": "a"})), Delivered)
    assert endpoint.tokens == 2
    endpoint.refuse = 2
    assert isinstance(await deliver(fcm, a_message({"token": "a"})), Unauthorised)
    assert endpoint.tokens == 3
    sent = [request for request in endpoint.requests if "token" not in request.url]
    tokens = [request.headers["authorization"].removeprefix("Bearer ") for request in sent]
    assert tokens == ["t1", "t1", "t2", "t2", "t3"]


@pytest.mark.parametrize("deliver", DELIVERIES)
async def test_refused_credentials_are_not_tried_again_at_once(deliver: Delivery) -> None:
    endpoint = Endpoint()
    fcm = await started(endpoint)
    refusal = Response(400, {}, b'{"error":"invalid_grant","error_description":"no such key"}')
    endpoint.token_answers = [refusal] * 9
    for _ in range(5):
        end = await deliver(fcm, a_message({"token": "a"}))
        assert isinstance(end, Unauthorised)
        assert "invalid_grant no such key" in end.reason
    assert len(endpoint.requests) == 1
    with pytest.raises(UsageError, match="invalid_grant"):
        await fcm.verify()


async def test_a_token_endpoint_that_fails_is_tried_again() -> None:
    endpoint = Endpoint()
    fcm = await started(endpoint)
    endpoint.token_answers = [TransportError("reset"), Response(503, {}, b"")]
    assert isinstance((await fcm.deliver([a_message({"token": "a"})]))[0], Delivered)
    assert endpoint.tokens == 1


async def test_a_token_is_renewed_early_and_the_old_one_serves_while_google_is_down() -> None:
    now, answers = (
        NOW,
        [
            ("t1", 3600.0),
            TransportError("away"),
            TransportError("away"),
            TransportError("away"),
            ("t2", 3600.0),
        ],
    )

    async def fetch() -> tuple[str, float]:
        found: Any = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        token: tuple[str, float] = found
        return token

    tokens = Tokens(fetch, lambda: now)
    assert await tokens.get() == "t1"
    now += 3600 * 0.85
    assert await tokens.get() == "t1"  # while the next one is requested, in vain
    while len(answers) > 1:
        await asyncio.sleep(0.01)
    assert await tokens.get() == "t1"
    now += QUIET + 1
    assert await tokens.get() == "t1"
    while answers:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    assert await tokens.get() == "t2"
    await tokens.close()


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (Response(500, {}, b"<html>"), TransportError),
        (Response(400, {}, b'{"error":"server_error"}'), TransportError),
        (Response(401, {}, b'{"error":"invalid_client"}'), TokenRefused),
        (Response(200, {}, b"{}"), TransportError),
    ],
)
def test_answers_of_the_token_endpoint_are_final_or_temporary(
    response: Response, error: type[Exception]
) -> None:
    with pytest.raises(error):
        read_token(response)


@pytest.mark.parametrize(
    ("life", "seconds"),
    [('"3599"', 3599), ("3599", 3599), ("null", 3600), ("5011271", 86400), ("1e300", 86400)],
    ids=["text", "number", "null", "months", "endless"],
)
def test_the_lifetime_of_a_token_may_be_a_text_or_null_or_very_long(life: str, seconds: float) -> None:
    body = f'{{"access_token":"a","expires_in":{life},"token_type":"Bearer"}}'.encode()
    assert read_token(Response(200, {}, body)) == ("a", seconds)


@pytest.mark.parametrize("status", [200, 403, 502])
def test_a_page_in_html_instead_of_a_token_is_named_in_the_reason(status: int) -> None:
    page = b"<!DOCTYPE html>\n<title>Sign in to the guest network</title>"
    with pytest.raises(TransportError, match=f"answered {status} <!DOCTYPE html> <title>Sign in"):
        read_token(Response(status, {"content-type": "text/html"}, page))


def test_a_truncated_token_answer_has_its_own_reason() -> None:
    cut = Response(200, {}, b'{"access_token":"ya2', "the body was cut short")
    with pytest.raises(TransportError, match="answered 200, but the body was cut short"):
        read_token(cut)


def test_a_private_key_may_have_lost_its_line_breaks_in_an_environment_variable() -> None:
    flat = json.dumps(account(private_key=keys()[0].replace("\n", "\\n")))
    assert read_account(flat) == account()


def test_the_vector_of_an_assertion_verifies() -> None:
    vectors = json.loads((Path(__file__).parents[2] / "vectors/push.json").read_text())
    (vector,) = [v for v in vectors if v["kind"] == "oauth2_jwt_grant"]
    claims = jwt.decode(
        vector["expected"]["assertion"],
        vector["inputs"]["public_key_pem"],
        algorithms=["RS256"],
        audience=TOKEN_URI,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert msgspec.json.encode(claims) == vector["inputs"]["claims_json"].encode()


def a_pem(key: Any) -> str:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())).decode()


@pytest.mark.parametrize(
    ("private_key", "problem"),
    [
        ("no key", "private_key: cannot be read: ValueError"),
        (a_pem(ec.generate_private_key(ec.SECP256R1())), "private_key: is not an RSA key"),
    ],
)
def test_a_service_account_needs_an_rsa_key(private_key: str, problem: str) -> None:
    account = dict.fromkeys(("client_email", "private_key_id", "token_uri", "project_id"), "x")
    with pytest.raises(ValueError) as caught:
        read_account(json.dumps({**account, "private_key": private_key}))
    assert str(caught.value) == problem
