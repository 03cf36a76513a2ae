"""APNs: what is refused, what goes out, what an answer means, and provider tokens."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from providers.apns import LARGEST, LARGEST_VOIP, TOKEN_LIFE, Apns, ApnsOptions, apns_id, push_type, read_key
from relay.errors import UsageError
from relay.message import Message, parse_envelope
from relay.outcome import Delivered, Outcome, Rejected, Retry, Throttled, Unauthorised, Unregistered
from relay.provider import Request, Response
from testing.http2_server import certificates

NOW = 1_800_001_000.0
VECTORS = json.loads((Path(__file__).parents[2] / "vectors/push.json").read_text())
(VECTOR,) = [vector for vector in VECTORS if vector["kind"] == "provider_token"]
KEY = VECTOR["inputs"]["p8_pem_test_key"]
PUBLIC = read_key(KEY).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DEVICE = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"


def options(**fields: Any) -> ApnsOptions:
    own = {"key": KEY, "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "topic": "com.example.app"}
    return ApnsOptions(type="apns", **{**own, **fields})


def an_apns(now: float = NOW, **fields: Any) -> Apns:
    return Apns("apns", options(**fields), clock=lambda: now)


def a_message(payload: Any = None, **envelope: Any) -> Message:
    payload = {"device_token": DEVICE, "aps": {"alert": "Hi"}, **(payload or {})}
    element = json.dumps({"id": "order-17", **envelope, "payload": payload}).encode()
    return parse_envelope(element, "notifications", NOW)[1]


def headers(
    payload: Any = None, now: float = NOW, config: dict[str, Any] | None = None, **envelope: Any
) -> Any:
    return an_apns(now, **(config or {})).request([a_message(payload, **envelope)]).headers


# Requests


def test_the_body_is_what_the_application_wrote_without_our_own_fields() -> None:
    payload = b'{"device_token":"00fc","aps": {"alert":"Ol\\u00e9"},"headers":{},"order":17.0}'
    request = an_apns().request([Message(id="a", queue="q", payload_json=payload)])
    assert request.url == "https://api.push.apple.com/3/device/00fc"
    assert request.body == b'{"aps":{"alert":"Ol\\u00e9"},"order":17.0}'


def test_headers_of_an_alert() -> None:
    found = dict(headers())
    token = found.pop("authorization").removeprefix("bearer ")
    assert found == {
        "apns-id": apns_id("order-17"),
        "apns-push-type": "alert",
        "apns-topic": "com.example.app",
    }
    assert jwt.get_unverified_header(token)["kid"] == "ABC123DEFG"
    claims = jwt.decode(token, PUBLIC, algorithms=["ES256"], options={"verify_iat": False})
    assert claims == {"iss": "DEF123GHIJ", "iat": int(NOW) // TOKEN_LIFE * TOKEN_LIFE}


def test_what_the_envelope_asks_for_is_said_in_apple_s_words() -> None:
    found = headers(ttl=90, collapse_key="score", priority="high")
    assert found["apns-expiration"] == str(int(NOW) + 90)
    assert (found["apns-collapse-id"], found["apns-priority"]) == ("score", "10")
    assert headers(priority="low")["apns-priority"] == "5"
    assert headers(ttl="60d")["apns-expiration"] == str(int(NOW) + 30 * 86400)


def test_the_payload_s_headers_win() -> None:
    own = {
        "apns-topic": "com.example.other",
        "apns-priority": 1,
        "apns-expiration": "0",
        "apns-collapse-id": "x",
    }
    found = headers({"headers": own}, ttl=90, collapse_key="score", priority="high")
    assert {name: found[name] for name in own} == {name: str(value) for name, value in own.items()}


@pytest.mark.parametrize("key", ["x" * 65, "ключ", "a\nb", " a"])
def test_a_collapse_key_that_is_no_header_is_hashed(key: str) -> None:
    found = headers(collapse_key=key)["apns-collapse-id"]
    assert len(found) == 43
    assert found == headers(collapse_key=key)["apns-collapse-id"]


def test_a_push_type_gives_its_topic_s_suffix_and_background_its_priority() -> None:
    assert headers({"headers": {"apns-push-type": "voip"}})["apns-topic"] == "com.example.app.voip"
    found = headers({"aps": {"content-available": 1}}, priority="high")
    assert (found["apns-push-type"], found["apns-priority"]) == ("background", "5")
    assert push_type({"aps": {"content-available": 1, "sound": "x"}}) == "alert"


@pytest.mark.parametrize(
    ("kind", "suffix"), [("widgets", ".push-type.widgets"), ("controls", ".push-type.controls")]
)
def test_widgets_and_controls_have_topics_of_their_own(kind: str, suffix: str) -> None:
    assert headers({"headers": {"apns-push-type": kind}})["apns-topic"] == "com.example.app" + suffix


def test_a_topic_that_has_its_suffix_already_gets_no_second_one() -> None:
    apns = an_apns(topic="com.example.app.voip")
    request = apns.request([a_message({"headers": {"apns-push-type": "voip"}})])
    assert request.headers["apns-topic"] == "com.example.app.voip"


def test_a_push_for_device_management_needs_no_aps() -> None:
    message = a_message({"mdm": "A1B2", "aps": None})
    assert an_apns().check(message) is None
    assert an_apns().request([message]).headers["apns-push-type"] == "mdm"
    refused = an_apns().check(a_message({"mdm": 7, "aps": None}))
    assert refused is not None
    assert "PushMagic" in refused.reason


def test_null_means_absent() -> None:
    plain = {name: value for name, value in headers().items() if name != "authorization"}
    for absent in (None, {"apns-topic": None, "apns-priority": None}):
        assert headers({"headers": absent}).items() >= plain.items()
    assert push_type({"aps": {"content-available": 1, "alert": None}}) == "background"


def test_escapes_do_not_count_against_the_size() -> None:
    text = "\u0436" * 700
    message = a_message({"aps": {"alert": text}})
    assert rb"\u0436" in message.payload_json
    assert len(message.payload_json) > LARGEST
    assert an_apns().check(message) is None
    assert an_apns().request([message]).body == f'{{"aps":{{"alert":"{text}"}}}}'.encode()


def test_a_key_may_have_come_through_an_environment_variable() -> None:
    text = KEY.replace("\n", "\\n")
    assert read_key(an_apns(key=text).options.key.get_secret_value()) is not None


def test_the_id_is_a_uuid_and_the_same_at_every_attempt() -> None:
    assert apns_id("order-17") == apns_id("order-17") != apns_id("order-18")
    assert UUID(apns_id("order-17")).version == 5
    own = "0190A000-0000-7000-8000-000000000001"
    assert apns_id(own) == own.lower()


def test_the_sandbox_and_another_server() -> None:
    assert an_apns(environment="sandbox").request([a_message()]).url.startswith("https://api.sandbox.push.")
    assert an_apns(url="https://127.0.0.1:7/").request([a_message()]).url.startswith("https://127.0.0.1:7/3/")


def test_a_certificate_needs_no_token_and_no_topic(tmp_path: Path) -> None:
    _, certificate, key = certificates(tmp_path)
    config = {
        "key": None,
        "key_id": None,
        "team_id": None,
        "topic": None,
        "client_cert": certificate.read_text(),
        "client_key": key.read_text(),
    }
    apns = an_apns(**config)
    assert apns.check(a_message()) is None
    assert "authorization" not in apns.request([a_message()]).headers
    refused = apns.check(a_message({"headers": {"apns-push-type": "location"}}))
    assert refused is not None
    assert "needs a provider token" in refused.reason


# Limits


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ({"device_token": None}, "device_token"),
        ({"device_token": "xyz"}, "hexadecimal"),
        ({"device_token": "../3/device/00"}, "hexadecimal"),
        ({"aps": "hello"}, "aps: must be an object"),
        ({"headers": []}, "headers: must be an object"),
        ({"headers": {"x-mine": "1"}}, "headers.x-mine: no such header"),
        ({"headers": {"apns-topic": "a\r\nb: c"}}, "visible ASCII"),
        ({"headers": {"apns-topic": True}}, "visible ASCII"),
        ({"headers": {"apns-collapse-id": "x" * 65}}, "at most 64"),
        ({"headers": {"apns-id": "17"}}, "must be a UUID"),
        ({"headers": {"apns-priority": 7}}, "must be 10, 5 or 1"),
        ({"headers": {"apns-expiration": "soon"}}, "must be Unix seconds"),
        ({"headers": {"apns-expiration": -1}}, "must be Unix seconds"),
        ({"aps": {"content-available": 1}, "headers": {"apns-priority": "10"}}, "background"),
        ({"text": "x" * LARGEST}, "bytes of payload"),
    ],
)
def test_what_apns_would_never_take_is_refused_before_it_is_sent(payload: dict[str, Any], word: str) -> None:
    refused = an_apns().check(a_message(payload))
    assert isinstance(refused, Rejected)
    assert word in refused.reason


def test_limits_to_the_byte() -> None:
    frame = len(b'{"aps":{"alert":"Hi"},"text":""}')
    assert an_apns().check(a_message({"text": "x" * (LARGEST - frame)})) is None
    assert an_apns().check(a_message({"text": "x" * (LARGEST - frame + 1)})) is not None
    voip = {"headers": {"apns-push-type": "voip"}, "text": "x" * (LARGEST_VOIP - frame)}
    assert an_apns().check(a_message(voip)) is None


def test_a_topic_is_needed_from_somewhere() -> None:
    refused = an_apns(topic=None).check(a_message())
    assert refused is not None
    assert "apns-topic: missing" in refused.reason


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"key": None}, "either key_file"),
        ({"key_id": None}, "key_id and team_id"),
        ({"key": "nonsense"}, "the .p8 file"),
        ({"client_key": KEY}, "go together"),
    ],
)
def test_options_that_cannot_work_are_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        options(**fields)


def test_a_key_and_a_certificate_are_one_too_many(tmp_path: Path) -> None:
    _, certificate, key = certificates(tmp_path)
    with pytest.raises(ValidationError, match="either key_file"):
        options(client_cert=certificate.read_text(), client_key=key.read_text())


# Answers


def answer(status: int, why: str, **more: Any) -> Response:
    return Response(status, {}, json.dumps({"reason": why, **more}).encode())


OUTCOMES: dict[str, type[Outcome]] = {
    "rejected": Rejected,
    "unregistered": Unregistered,
    "unauthorised": Unauthorised,
    "retry": Retry,
    "throttled": Throttled,
}
PAGE = (Path(__file__).parents[3] / "docs/providers/apns.md").read_text()
TABLE = [
    (int(status), reason, OUTCOMES[outcome])
    for status, reasons, outcome in re.findall(
        r"^\| (\d{3}) \| ([A-Za-z, ]+) \| ([a-z]+)", PAGE, re.MULTILINE
    )
    for reason in reasons.split(", ")
]
ANSWERS = [
    *TABLE,
    (400, "SomethingNew", Rejected),
    (403, "SomethingNew", Unauthorised),
    (408, "SomethingNew", Retry),
    (410, "SomethingNew", Unregistered),
    (429, "SomethingNew", Retry),
    (500, "", Retry),
]


def test_the_page_lists_every_reason_that_apple_documents_once() -> None:
    reasons = [reason for _, reason, _ in TABLE]
    assert len(reasons) == len(set(reasons)) == 33, "Apple's 32, and one that is seen on the wire only"


@pytest.mark.parametrize(("status", "why", "outcome"), ANSWERS)
def test_answers_by_their_reason(status: int, why: str, outcome: type[Outcome]) -> None:
    (found,) = an_apns().outcomes([a_message()], answer(status, why))
    assert isinstance(found, outcome)


def test_a_device_that_is_gone_is_gone_since_then() -> None:
    (found,) = an_apns().outcomes([a_message()], answer(410, "Unregistered", timestamp=1_700_000_000_123))
    assert found == Unregistered(DEVICE, "410 Unregistered", 410, 1_700_000_000.123)


def test_a_topic_that_the_message_brought_is_its_own_fault() -> None:
    (found,) = an_apns().outcomes([a_message({"headers": {"apns-topic": "x"}})], answer(400, "BadTopic"))
    assert isinstance(found, Rejected)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff"])
def test_an_answer_in_no_json_goes_by_its_status(body: bytes) -> None:
    assert isinstance(an_apns().outcomes([a_message()], Response(502, {}, body))[0], Retry)
    assert isinstance(an_apns().outcomes([a_message()], Response(200, {"apns-id": "7"}, body))[0], Delivered)


# Tokens


class Apple:
    """A transport that refuses tokens issued before `valid_from`."""

    def __init__(self, valid_from: float) -> None:
        self.valid_from = valid_from
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        token = request.headers["authorization"].removeprefix("bearer ")
        claims = jwt.decode(token, PUBLIC, algorithms=["ES256"], options={"verify_iat": False})
        return Response(200) if claims["iat"] >= self.valid_from else answer(403, "ExpiredProviderToken")

    async def close(self) -> None:
        pass


def test_a_token_is_used_for_forty_minutes_by_all_processes_alike() -> None:
    now = 750_000 * float(TOKEN_LIFE)
    first, second = (Apns("apns", options(), clock=lambda: now) for _ in range(2))
    tokens = []
    for minutes in (0, 20, 39, 40, 79):
        now = 750_000 * float(TOKEN_LIFE) + minutes * 60
        tokens.append(first.request([a_message()]).headers["authorization"])
    assert len(set(tokens)) == 2
    issued = [
        jwt.decode(token.removeprefix("bearer "), options={"verify_signature": False})["iat"]
        for token in (tokens[-1], second.request([a_message()]).headers["authorization"])
    ]
    assert issued[0] == issued[1]


async def test_an_expired_token_is_replaced_once_and_not_in_a_storm() -> None:
    now = 750_000 * float(TOKEN_LIFE) + 1800
    apns = Apns("apns", options(), clock=lambda: now)
    apple = Apple(valid_from=now - 60)
    await apns.start(apple)
    assert isinstance((await apns.deliver([a_message()]))[0], Delivered)
    assert len(apple.requests) == 2
    apple.valid_from = now + 60
    assert isinstance((await apns.deliver([a_message()]))[0], Unauthorised)
    assert len(apple.requests) == 3, "the token is too young to be replaced"


async def test_messages_under_way_with_an_expired_token_take_the_one_that_replaced_it() -> None:
    now = 750_000 * float(TOKEN_LIFE) + 1800
    apns = Apns("apns", options(), clock=lambda: now)
    apple = Apple(valid_from=now - 60)
    await apns.start(apple)
    # All five are sent before the first answer is looked at.
    gate = asyncio.Barrier(5)
    send = apple.send

    async def together(request: Request) -> Response:
        response = await send(request)
        if response.status == 403:
            await gate.wait()
        return response

    apple.send = together  # type: ignore[method-assign]
    found = await asyncio.gather(*(apns.deliver([a_message(id=str(number))]) for number in range(5)))
    assert [type(outcome) for (outcome,) in found] == [Delivered] * 5
    tokens = {request.headers["authorization"] for request in apple.requests}
    assert (len(apple.requests), len(tokens)) == (10, 2)


class Refuser:
    """A transport that has one answer."""

    def __init__(self, response: Response) -> None:
        self.response = response

    async def send(self, request: Request) -> Response:
        return self.response

    async def close(self) -> None:
        pass


async def test_a_certificate_has_no_token_that_could_be_replaced(tmp_path: Path) -> None:
    _, certificate, key = certificates(tmp_path)
    nothing = dict.fromkeys(("key", "key_id", "team_id"))
    apns = an_apns(**nothing, client_cert=certificate.read_text(), client_key=key.read_text())
    await apns.start(Refuser(answer(403, "ExpiredProviderToken")))
    assert isinstance((await apns.deliver([a_message()]))[0], Unauthorised)


@pytest.mark.parametrize(
    ("topic", "response", "words"),
    [
        ("com.example.app", answer(400, "BadDeviceToken"), "takes our credentials (400 BadDeviceToken)"),
        ("com.example.app", answer(403, "InvalidProviderToken"), None),
        ("com.example.app", answer(400, "TopicDisallowed"), None),
        ("com.example.app", answer(400, "MissingTopic"), None),
        (None, answer(400, "MissingTopic"), "more cannot be told without a `topic`"),
    ],
)
async def test_what_a_check_can_tell_without_a_notification(
    topic: str | None, response: Response, words: str | None
) -> None:
    apns = an_apns(topic=topic)
    await apns.start(Refuser(response))
    if words is not None:
        assert words in await apns.verify()
    else:
        with pytest.raises(UsageError, match="APNs refuses us: 40"):
            await apns.verify()


def test_the_vector_of_a_provider_token_verifies() -> None:
    token = VECTOR["expected"]["jwt_rfc6979"]
    claims = jwt.decode(token, PUBLIC, algorithms=["ES256"], options={"verify_iat": False})
    assert claims == json.loads(VECTOR["inputs"]["claims_json"])
