"""APNs: requests, limits, provider tokens and credentials."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from providers._shared.apns_push import LARGEST, LARGEST_VOIP, apns_id, push_type
from providers._shared.apns_token import LIFETIME, read_key
from providers.apns import Apns, ApnsOptions
from relay.errors import UsageError
from relay.message import Message, parse_envelope
from relay.outcome import Delivered, Rejected, Unauthorised
from relay.provider import Request, Response
from testing.canned import Canned
from testing.deliveries import DELIVERIES, Delivery
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


def test_the_body_is_the_payload_without_relay_s_own_fields() -> None:
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
    assert claims == {"iss": "DEF123GHIJ", "iat": int(NOW) // LIFETIME * LIFETIME}


def test_the_fields_of_the_envelope_become_apple_s_headers() -> None:
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


def test_a_topic_that_includes_its_suffix_gets_no_second_one() -> None:
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
    refused = an_apns().check(a_message({"mdm": None, "aps": None}))
    assert refused is not None
    assert "aps: must be an object" in refused.reason
    assert an_apns().check(a_message({"channel_id": None, "mdm": None})) is None
    assert an_apns().request([a_message({"channel_id": None})]).body == b'{"aps":{"alert": "Hi"}}'
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


def test_a_key_may_have_lost_its_line_breaks_in_an_environment_variable() -> None:
    text = KEY.replace("\n", "\\n")
    secret = an_apns(key=text).options.key
    assert secret is not None
    assert read_key(secret.get_secret_value()) is not None


def test_the_id_is_a_uuid_and_the_same_at_every_attempt() -> None:
    assert apns_id("order-17") == apns_id("order-17") != apns_id("order-18")
    for number in range(100):  # each digit that the variant replaces
        assert apns_id(f"order-{number}") == str(uuid5(NAMESPACE_URL, f"relay:order-{number}"))
    own = "0190A000-0000-7000-8000-000000000001"
    assert apns_id(own) == own.lower()


def test_a_push_goes_to_the_server_of_the_options() -> None:
    assert an_apns(environment="sandbox").request([a_message()]).url.startswith("https://api.sandbox.push.")
    assert an_apns(url="https://127.0.0.1:7/").request([a_message()]).url.startswith("https://127.0.0.1:7/3/")


def test_a_certificate_needs_no_token_and_no_topic(tmp_path: Path) -> None:
    _, certificate, key = certificates(tmp_path)
    config: dict[str, Any] = {
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


# Live Activities and broadcast channels

CHANNEL = "dHN0LXNyY2gtY2hubA=="
UPDATE = {"timestamp": 1_800_001_000, "event": "update", "content-state": {"home": 2, "guest": 1}}


def a_broadcast(payload: Any = None, **envelope: Any) -> Message:
    payload = {"channel_id": CHANNEL, "aps": UPDATE, **(payload or {})}
    element = json.dumps({"id": "goal-3", **envelope, "payload": payload}).encode()
    return parse_envelope(element, "notifications", NOW)[1]


@pytest.mark.parametrize("event", ["start", "update", "end"])
def test_a_push_with_an_event_is_one_of_a_live_activity(event: str) -> None:
    found = headers({"aps": {"timestamp": 1_800_001_000, "event": event, "content-state": {}}})
    assert found["apns-push-type"] == "liveactivity"
    assert found["apns-topic"] == "com.example.app.push-type.liveactivity"


def test_a_broadcast_goes_to_the_app_and_names_its_channel() -> None:
    request = an_apns().request([a_broadcast()])
    found = dict(request.headers)
    assert found.pop("authorization").startswith("bearer ")
    assert request.url == "https://api.push.apple.com/4/broadcasts/apps/com.example.app"
    assert found == {
        "apns-request-id": apns_id("goal-3"),
        "apns-channel-id": CHANNEL,
        "apns-push-type": "liveactivity",
        "apns-priority": "10",
        "apns-expiration": "0",
    }
    assert json.loads(request.body) == {"aps": UPDATE}


def test_the_envelope_s_fields_reach_a_broadcast() -> None:
    found = an_apns().request([a_broadcast(ttl=90, priority="low", collapse_key="score")]).headers
    assert (found["apns-expiration"], found["apns-priority"]) == (str(int(NOW) + 90), "5")
    assert "apns-collapse-id" not in found
    later = an_apns().request([a_broadcast(ttl="1d")]).headers["apns-expiration"]
    assert later == str(int(NOW) + 8 * 3600)
    own = {"apns-expiration": "0", "apns-priority": 1, "apns-topic": "com.example.tv.push-type.liveactivity"}
    request = an_apns().request([a_broadcast({"headers": own}, ttl=90)])
    assert request.url.endswith("/4/broadcasts/apps/com.example.tv")
    assert (request.headers["apns-expiration"], request.headers["apns-priority"]) == ("0", "1")
    assert "apns-topic" not in request.headers


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ({"device_token": "00fc"}, "either a channel_id or a device_token"),
        ({"channel_id": "not base64"}, "channel_id: must be the base64 text"),
        ({"channel_id": 7}, "channel_id: must be the base64 text"),
        ({"aps": None}, "aps: must be an object"),
        ({"aps": {"event": "start"}}, "a broadcast cannot start a Live Activity"),
        ({"headers": {"apns-push-type": "alert"}}, "a broadcast is always liveactivity"),
        ({"headers": {"apns-collapse-id": "x"}}, "no such header"),
        ({"headers": {"apns-request-id": "17"}}, "headers.apns-request-id: must be a UUID"),
        ({"headers": {"apns-topic": "com.example/../channels"}}, "must be a bundle id"),
        ({"aps": {"content-state": "x" * 5120}}, "APNs accepts at most 5120"),
    ],
)
def test_a_broadcast_that_apns_would_refuse_is_refused_before_it_is_sent(
    payload: dict[str, Any], word: str
) -> None:
    refused = an_apns().check(a_broadcast(payload))
    assert isinstance(refused, Rejected)
    assert word in refused.reason


def test_a_broadcast_needs_a_topic_from_somewhere() -> None:
    assert an_apns().check(a_broadcast()) is None
    refused = an_apns(topic=None).check(a_broadcast())
    assert refused is not None
    assert "apns-topic: missing" in refused.reason
    assert an_apns(topic=None).check(a_broadcast({"headers": {"apns-topic": "com.example.app"}})) is None


@pytest.mark.parametrize(
    ("fields", "base"),
    [
        ({}, "https://api-manage-broadcast.push.apple.com:2196"),
        ({"environment": "sandbox"}, "https://api-manage-broadcast.sandbox.push.apple.com:2195"),
        ({"url": "https://127.0.0.1:7/"}, "https://127.0.0.1:7"),
        (
            {"topic": "com.example.app.push-type.liveactivity"},
            "https://api-manage-broadcast.push.apple.com:2196",
        ),
    ],
)
async def test_channels_are_managed_at_the_server_of_the_environment(
    fields: dict[str, Any], base: str
) -> None:
    apns = an_apns(**fields)
    apple = Apple(valid_from=0)
    await apns.start(apple)
    await apns.channels().delete(CHANNEL)
    (request,) = apple.requests
    assert (request.method, request.url) == ("DELETE", f"{base}/1/apps/com.example.app/channels")
    assert (request.headers["apns-channel-id"], request.body) == (CHANNEL, b"")


async def test_channels_need_the_topic_of_the_configuration() -> None:
    apns = an_apns(topic=None)
    await apns.start(Apple(valid_from=0))
    with pytest.raises(UsageError, match=r"providers\.apns\.topic: missing"):
        apns.channels()


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
def test_a_push_that_apns_would_refuse_is_refused_before_it_is_sent(
    payload: dict[str, Any], word: str
) -> None:
    refused = an_apns().check(a_message(payload))
    assert isinstance(refused, Rejected)
    assert word in refused.reason


def test_sizes_are_limited_to_the_byte() -> None:
    frame = len(b'{"aps":{"alert":"Hi"},"text":""}')
    assert an_apns().check(a_message({"text": "x" * (LARGEST - frame)})) is None
    assert an_apns().check(a_message({"text": "x" * (LARGEST - frame + 1)})) is not None
    voip = {"headers": {"apns-push-type": "voip"}, "text": "x" * (LARGEST_VOIP - frame)}
    assert an_apns().check(a_message(voip)) is None


def test_a_push_needs_a_topic_from_somewhere() -> None:
    refused = an_apns(topic=None).check(a_message())
    assert refused is not None
    assert "apns-topic: missing" in refused.reason


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"key": None}, "either key_file"),
        ({"key_id": None}, "key_id and team_id"),
        ({"key": "nonsense"}, "the .p8 file"),
        ({"client_key": KEY}, "must be set together"),
    ],
)
def test_options_that_cannot_work_are_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        options(**fields)


def test_a_key_together_with_a_certificate_is_refused(tmp_path: Path) -> None:
    _, certificate, key = certificates(tmp_path)
    with pytest.raises(ValidationError, match="either key_file"):
        options(client_cert=certificate.read_text(), client_key=key.read_text())


def answer(status: int, why: str) -> Response:
    return Response(status, {}, json.dumps({"reason": why}).encode())


# Tokens


class Apple(Canned):
    """Refuses tokens issued before `valid_from`."""

    def __init__(self, valid_from: float) -> None:
        super().__init__(self._judge)
        self.valid_from = valid_from

    def _judge(self, request: Request) -> Response:
        token = request.headers["authorization"].removeprefix("bearer ")
        claims = jwt.decode(token, PUBLIC, algorithms=["ES256"], options={"verify_iat": False})
        return Response(200) if claims["iat"] >= self.valid_from else answer(403, "ExpiredProviderToken")


def test_a_token_is_used_for_forty_minutes_by_all_processes_alike() -> None:
    now = 750_000 * float(LIFETIME)
    first, second = (Apns("apns", options(), clock=lambda: now) for _ in range(2))
    tokens = []
    for minutes in (0, 20, 39, 40, 79):
        now = 750_000 * float(LIFETIME) + minutes * 60
        tokens.append(first.request([a_message()]).headers["authorization"])
    assert len(set(tokens)) == 2
    issued = [
        jwt.decode(token.removeprefix("bearer "), options={"verify_signature": False})["iat"]
        for token in (tokens[-1], second.request([a_message()]).headers["authorization"])
    ]
    assert issued[0] == issued[1]


@pytest.mark.parametrize("deliver", DELIVERIES)
async def test_an_expired_token_is_replaced_once(deliver: Delivery) -> None:
    now = 750_000 * float(LIFETIME) + 1800
    apns = Apns("apns", options(), clock=lambda: now)
    apple = Apple(valid_from=now - 60)
    await apns.start(apple)
    assert isinstance(await deliver(apns, a_message()), Delivered)
    assert len(apple.requests) == 2
    apple.valid_from = now + 60
    assert isinstance(await deliver(apns, a_message()), Unauthorised)
    assert len(apple.requests) == 3, "the token is too young to be replaced"


async def test_messages_in_flight_with_an_expired_token_use_its_replacement() -> None:
    now = 750_000 * float(LIFETIME) + 1800
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


async def test_a_provider_with_a_certificate_replaces_no_token(tmp_path: Path) -> None:
    _, certificate, key = certificates(tmp_path)
    nothing: dict[str, Any] = dict.fromkeys(("key", "key_id", "team_id"))
    apns = an_apns(**nothing, client_cert=certificate.read_text(), client_key=key.read_text())
    await apns.start(Canned(answer(403, "ExpiredProviderToken")))
    assert isinstance((await apns.deliver([a_message()]))[0], Unauthorised)


@pytest.mark.parametrize(
    ("topic", "response", "words"),
    [
        ("com.example.app", answer(400, "BadDeviceToken"), "accepts our credentials (400 BadDeviceToken)"),
        ("com.example.app", answer(403, "InvalidProviderToken"), None),
        ("com.example.app", answer(400, "TopicDisallowed"), None),
        ("com.example.app", answer(400, "MissingTopic"), None),
        (None, answer(400, "MissingTopic"), "without a `topic` that is all we can check"),
    ],
)
async def test_a_check_reports_whether_apns_accepts_the_credentials(
    topic: str | None, response: Response, words: str | None
) -> None:
    apns = an_apns(topic=topic)
    await apns.start(Canned(response))
    if words is not None:
        assert words in await apns.verify()
    else:
        with pytest.raises(UsageError, match="APNs refuses us: 40"):
            await apns.verify()


def test_the_vector_of_a_provider_token_verifies() -> None:
    token = VECTOR["expected"]["jwt_rfc6979"]
    claims = jwt.decode(token, PUBLIC, algorithms=["ES256"], options={"verify_iat": False})
    assert claims == json.loads(VECTOR["inputs"]["claims_json"])
