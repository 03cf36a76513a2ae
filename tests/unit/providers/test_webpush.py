"""Web Push: the RFCs' own vectors, refused messages, requests, and the outcomes of answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import http_ece
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from providers._shared.upstream import topic
from providers._shared.webpush_crypto import (
    CURVE,
    LARGEST,
    RECORD,
    VAPID_REUSE,
    application_server_key,
    decoded,
    encrypt,
    read_private_key,
    unpadded,
)
from providers.webpush import WebPush, WebPushOptions
from relay.message import Message, parse_envelope
from relay.outcome import Rejected, Throttled, Unauthorised
from relay.provider import Response

NOW = 1_800_000_000.0
VECTORS = {v["id"]: v for v in json.loads((Path(__file__).parents[2] / "vectors/push.json").read_text())}
RFC = VECTORS["rfc8291-5-appendixA"]["inputs"]
VAPID = VECTORS["vapid-deterministic-own"]["inputs"]
BROWSER = read_private_key(RFC["ua_private"])
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/abc"


def a_webpush(**fields: Any) -> WebPush:
    own = {"private_key": VAPID["private_raw_b64url"], "subject": "mailto:ops@example.com"}
    return WebPush("push", WebPushOptions(type="webpush", **{**own, **fields}), clock=lambda: NOW)


def subscription(endpoint: str = ENDPOINT, **keys: Any) -> dict[str, Any]:
    own = {"p256dh": RFC["ua_public"], "auth": RFC["auth_secret"]}
    return {"endpoint": endpoint, "expirationTime": None, "keys": {**own, **keys}}


def a_message(payload: Any = None, **envelope: Any) -> Message:
    payload = {"subscription": subscription(), "data": {"n": 1}, **(payload or {})}
    element = json.dumps({"id": "m1", **envelope, "payload": payload}).encode()
    return parse_envelope(element, "notifications", NOW)[1]


def decrypted(body: bytes) -> bytes:
    found: bytes = http_ece.decrypt(
        body, private_key=BROWSER, auth_secret=decoded(RFC["auth_secret"], 16, "auth"), version="aes128gcm"
    )
    return found


# Encryption


def test_the_rfc_s_example_byte_for_byte() -> None:
    body = encrypt(
        RFC["plaintext_utf8"].encode(),
        decoded(RFC["ua_public"], 65, "ua_public"),
        decoded(RFC["auth_secret"], 16, "auth"),
        sender=read_private_key(RFC["as_private"]),
        salt=decoded(RFC["salt"], 16, "salt"),
    )
    assert unpadded(body) == VECTORS["rfc8291-5-appendixA"]["expected"]["body"]


@given(plaintext=st.binary(max_size=LARGEST))
def test_the_browser_decrypts_the_payload(plaintext: bytes) -> None:
    body = encrypt(plaintext, decoded(RFC["ua_public"], 65, ""), decoded(RFC["auth_secret"], 16, ""))
    assert len(body) <= RECORD
    assert decrypted(body) == plaintext


def test_each_message_has_a_key_and_a_salt_of_its_own() -> None:
    webpush = a_webpush()
    one, other = (webpush.request([a_message()]).body for _ in range(2))
    assert one[:16] != other[:16]
    assert one[21:86] != other[21:86]


# VAPID


def test_the_token_is_the_vector_s_but_for_its_signature() -> None:
    found = a_webpush().request([a_message()]).headers["authorization"]
    token, _, key = found.removeprefix("vapid t=").partition(", k=")
    assert key == VAPID["public_raw_b64url"]
    public = read_private_key(VAPID["private_raw_b64url"]).public_key()
    audience = "https://updates.push.services.mozilla.com"
    claims = jwt.decode(token, public, algorithms=["ES256"], audience=audience, options={"verify_exp": False})
    assert claims["sub"] == "mailto:ops@example.com"
    assert NOW + 6 * 3600 <= claims["exp"] <= NOW + 12 * 3600


def test_a_token_serves_one_origin_for_a_few_hours() -> None:
    now = NOW - NOW % VAPID_REUSE
    own = {"private_key": VAPID["private_raw_b64url"], "subject": "https://example.com/contact"}
    webpush = WebPush("push", WebPushOptions(type="webpush", **own), clock=lambda: now)

    def token(endpoint: str) -> str:
        return webpush.request([a_message({"subscription": subscription(endpoint)})]).headers["authorization"]

    first = token("https://fcm.googleapis.com/fcm/send/a")
    assert token("https://fcm.googleapis.com/fcm/send/b") == first
    other = token("https://web.push.apple.com:8443/c")
    claims = jwt.decode(other.removeprefix("vapid t=").partition(",")[0], options={"verify_signature": False})
    assert claims["aud"] == "https://web.push.apple.com:8443"
    assert token("https://FCM.googleapis.com:443/fcm/send/c") == first
    now += VAPID_REUSE
    assert token("https://fcm.googleapis.com/fcm/send/a") != first


def test_the_rfc_s_token_verifies_with_its_key() -> None:
    vector = VECTORS["rfc8292-2.4"]
    key = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, decoded(vector["inputs"]["k"], 65, "k"))
    claims = jwt.decode(
        vector["inputs"]["t"],
        key,
        algorithms=["ES256"],
        audience="https://push.example.net",
        options={"verify_exp": False},
    )
    assert claims == vector["expected"]["claims"]


def test_keys_are_read_in_the_forms_that_people_have() -> None:
    key = read_private_key(VAPID["private_raw_b64url"])
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    sec1 = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    lines = [text.replace("\n", "\\n") for text in (pem, sec1)]
    der = ["".join(text.splitlines()[1:-1]) for text in (pem, sec1)]
    url_safe = [text.replace("+", "-").replace("/", "_").rstrip("=") for text in der]
    raw = VAPID["private_raw_b64url"]
    for text in (raw, raw + "=\n", pem, sec1, *lines, *der, *url_safe):
        assert application_server_key(read_private_key(text)) == VAPID["public_raw_b64url"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"private_key": "short"}, "base64url|32 bytes"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"}, "relay vapid"),
        ({"subject": "ops@example.com"}, "mailto:"),
        ({"subject": "mailto: ops@example.com"}, "mailto:"),
        ({"subject": "mailto:<ops@example.com>"}, "mailto:"),
        ({"subject": "mailto:ops@localhost"}, "mailto:"),
        ({"subject": "mailto:ops@host.local"}, "Apple refuses"),
        ({"subject": "https://localhost"}, "Apple refuses"),
        ({"subject": "mailto:ops@host.LAN"}, "Apple refuses"),
        ({"subject": "mailto:ops@10.0.0.1"}, "Apple refuses"),
        ({"subject": "https://127.0.0.1/about"}, "Apple refuses"),
        ({"subject": "https://[::1]/about"}, "Apple refuses"),
        ({"subject": "https://printer.local./"}, "Apple refuses"),
        ({"subject": "https://localhost:8443/about"}, "Apple refuses"),
        ({"allow_private": ["nonsense"]}, "network"),
    ],
)
def test_options_that_cannot_work_are_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        a_webpush(**fields)


# Requests


def test_headers_and_body_of_a_push() -> None:
    request = a_webpush().request([a_message()])
    headers = dict(request.headers)
    assert headers.pop("authorization").startswith("vapid t=")
    assert headers == {
        "ttl": "86400",
        "urgency": "normal",
        "content-encoding": "aes128gcm",
        "content-type": "application/octet-stream",
    }
    assert (request.url, request.public_only) == (ENDPOINT, True)
    assert decrypted(request.body) == b'{"n": 1}'


def test_envelope_fields_become_the_headers_of_the_rfc() -> None:
    headers = a_webpush().request([a_message(ttl="90.5s", collapse_key="score", priority="high")]).headers
    assert (headers["ttl"], headers["urgency"], headers["topic"]) == ("90", "high", topic("score"))
    assert len(topic("score")) == 32
    assert a_webpush().request([a_message(priority="low")]).headers["urgency"] == "low"
    assert a_webpush().request([a_message(ttl="60d")]).headers["ttl"] == str(28 * 86400)


def test_the_payload_wins_but_nothing_outlives_the_message() -> None:
    own = {"ttl": 30, "urgency": "very-low", "topic": "mine"}
    headers = a_webpush().request([a_message(own, ttl=90, collapse_key="score", priority="high")]).headers
    assert (headers["ttl"], headers["urgency"], headers["topic"]) == ("30", "very-low", "mine")
    assert a_webpush().request([a_message({"ttl": 300}, ttl=90)]).headers["ttl"] == "90"


def test_text_goes_as_text_and_nothing_as_nothing() -> None:
    assert decrypted(a_webpush().request([a_message({"data": "Olé"})]).body) == "Olé".encode()
    message = Message(id="a", queue="q", payload_json=json.dumps({"subscription": subscription()}).encode())
    request = a_webpush().request([message])
    assert request.body == b""
    assert "content-encoding" not in request.headers


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ({"subscription": None}, "JSON.stringify"),
        ({"subscription": {"endpoint": ENDPOINT}}, "JSON.stringify"),
        ({"subscription": {**subscription(), "endpoint": None}}, "endpoint: missing"),
        ({"subscription": subscription("http://push.example.com/a")}, "must be https"),
        ({"subscription": subscription("nonsense")}, "url"),
        ({"subscription": subscription(p256dh="AAAA")}, "p256dh: must be 65 bytes"),
        ({"subscription": subscription(p256dh=unpadded(b"\x04" + b"\x01" * 64))}, "not a point on the curve"),
        ({"subscription": subscription(auth="AAAA")}, "auth: must be 16 bytes"),
        ({"subscription": subscription(auth="*" * 22)}, "auth: must be base64url"),
        ({"subscription": subscription(auth=None)}, "auth: must be base64url"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"urgency": "urgent"}, "urgency"),
        ({"topic": "a b"}, "topic"),
        ({"topic": "x" * 33}, "topic"),
        ({"topic": "x" * 13}, "topic"),
        ({"data": "x" * (LARGEST + 1)}, "push services take at most"),
        ({"title": "x"}, "not a field"),
    ],
)
def test_an_impossible_message_is_refused(payload: dict[str, Any], word: str) -> None:
    refused = a_webpush().check(a_message(payload))
    assert isinstance(refused, Rejected)
    assert word in refused.reason


def test_null_means_absent() -> None:
    absent = dict.fromkeys(("ttl", "urgency", "topic", "data"))
    assert a_webpush().check(a_message(absent)) is None
    sent = a_webpush().request([a_message(absent, ttl=90)]).headers
    assert (sent["ttl"], sent["urgency"], "topic" in sent) == ("90", "normal", False)
    assert a_webpush().request([a_message(absent)]).body == b""


def test_escapes_do_not_count_against_the_size() -> None:
    message = a_message({"data": {"text": "\u0436" * 700}})
    assert len(message.payload_json) > LARGEST
    assert a_webpush().check(message) is None
    assert decrypted(a_webpush().request([message]).body) == f'{{"text": "{chr(0x436) * 700}"}}'.encode()


NOTIFICATION = {"title": "New", "navigate": "https://example.com/17", "body": "x"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"web_push": 8030, "notification": NOTIFICATION}, "application/notification+json"),
        (
            {
                "web_push": 8030,
                "notification": {
                    **NOTIFICATION,
                    "actions": [{"action": "open", "title": "Open", "navigate": "https://example.com/17"}],
                },
                "app_badge": 3,
                "mutable": True,
            },
            "application/notification+json",
        ),
        ({"web_push": 1}, "application/octet-stream"),
        ({"notification": NOTIFICATION}, "application/octet-stream"),
        ([8030], "application/octet-stream"),
    ],
)
def test_a_declarative_message_has_its_content_type(data: Any, kind: str) -> None:
    message = a_message({"data": data})
    assert a_webpush().check(message) is None
    request = a_webpush().request([message])
    assert (request.headers["content-type"], request.headers["content-encoding"]) == (kind, "aes128gcm")
    assert json.loads(decrypted(request.body)) == data


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({}, "data.notification: must be an object"),
        ({"notification": {**NOTIFICATION, "title": ""}}, "data.notification.title: must be a text"),
        ({"notification": {"title": "New"}}, "data.notification.navigate: must be a text"),
        ({"notification": {**NOTIFICATION, "actions": {}}}, "data.notification.actions: must be a list"),
        (
            {"notification": {**NOTIFICATION, "actions": [{"action": "a", "title": "A"}]}},
            "data.notification.actions[0].navigate: must be a text",
        ),
        ({"notification": NOTIFICATION, "app_badge": -1}, "data.app_badge: must be a whole number"),
        ({"notification": NOTIFICATION, "app_badge": True}, "data.app_badge: must be a whole number"),
        ({"notification": NOTIFICATION, "mutable": 1}, "data.mutable: must be true or false"),
    ],
)
def test_a_declarative_message_that_no_browser_shows_is_refused(more: dict[str, Any], word: str) -> None:
    refused = a_webpush().check(a_message({"data": {"web_push": 8030, **more}}))
    assert isinstance(refused, Rejected)
    assert word in refused.reason


def test_the_largest_data_is_taken() -> None:
    message = a_message({"data": "x" * LARGEST})
    assert a_webpush().check(message) is None
    assert len(a_webpush().request([message]).body) == RECORD


# Answers


# The table of the page is tested in test_statuses.py.

OTHER_KEY = [
    (400, b'{"reason":"VapidPkHashMismatch"}'),
    (403, b'{"reason":"VapidPkHashMismatch"}'),
    (400, b"<TITLE>UnauthorizedRegistration</TITLE>"),
    (403, b"MismatchSenderId"),
    (
        403,
        b"the VAPID credentials in the authorization header do not correspond to the credentials used to "
        b"create the subscriptions.",
    ),
    (403, b"the key in the authorization header does not correspond to the sender ID used to subscribe"),
    (401, b'{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch"}'),
]
BAD_SENDER = [
    (401, b'{"errno":109}'),
    (401, b""),
    (403, b'{"reason":"BadJwtToken"}'),
    (400, b'{"reason":"BadJwtToken"}'),
    (400, b'{"reason":"BadAuthorizationHeader"}'),
    (400, b'{"reason":"BadVapidPublicKey"}'),
]


@pytest.mark.parametrize(("status", "body"), OTHER_KEY)
def test_a_subscription_for_another_key_is_gone_if_it_alone_is_refused(status: int, body: bytes) -> None:
    (found,) = a_webpush().outcomes([a_message()], Response(status, {}, body))
    assert isinstance(found, Unauthorised)
    assert (found.target, found.unregistered, found.status) == (ENDPOINT, True, status)
    assert found.reason.startswith(f"{status} ")


@pytest.mark.parametrize(("status", "body"), BAD_SENDER)
def test_a_refusal_of_the_sender_names_the_subscription_that_it_was_for(status: int, body: bytes) -> None:
    (found,) = a_webpush().outcomes([a_message()], Response(status, {}, body))
    assert isinstance(found, Unauthorised)
    assert (found.target, found.unregistered) == (ENDPOINT, False)


@pytest.mark.parametrize("reason", ["BadWebPushTopic", "BadTtl", "BadUrgency", "BadWebPushRequest"])
def test_a_bad_request_is_about_the_message(reason: str) -> None:
    body = json.dumps({"reason": reason}).encode()
    (found,) = a_webpush().outcomes([a_message()], Response(400, {}, body))
    assert isinstance(found, Rejected)


def test_a_throttle_by_one_service_holds_its_own_messages_only() -> None:
    (found,) = a_webpush().outcomes([a_message()], Response(429, {"retry-after": "7"}, b""))
    assert found == Throttled("status 429", 7.0, 429, b"", "target")
    (found,) = a_webpush().outcomes([a_message()], Response(429, {}, b""))
    assert found == Throttled("status 429", 60.0, 429, b"", "target")
    grouped = msgspec.structs.replace(a_message(), group="push.example")
    (found,) = a_webpush().outcomes([grouped], Response(429, {}, b""))
    assert found == Throttled("status 429", None, 429)


def test_an_endpoint_that_anybody_made_up_cannot_hold_the_lane() -> None:
    message = a_message({"subscription": subscription("https://push.services.mozilla.com.evil.example/a")})
    (found,) = a_webpush().outcomes([message], Response(403, {}, b"no"))
    assert isinstance(found, Rejected)


def test_a_browser_s_own_key_pair_decrypts_the_payload() -> None:
    key = ec.generate_private_key(CURVE)
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    body = encrypt(b"hello", public, b"0123456789abcdef")
    auth = base64.urlsafe_b64decode(base64.urlsafe_b64encode(b"0123456789abcdef"))
    assert http_ece.decrypt(body, private_key=key, auth_secret=auth, version="aes128gcm") == b"hello"
