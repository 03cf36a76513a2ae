"""The stand-in of APNs: over real HTTP/2, asked by relay's own transport and by a client that is not ours."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aioapns
import jwt
import pytest
from aioapns.connection import APNsDevelopmentClientProtocol
from cryptography import x509

from providers.apns import Apns, ApnsOptions
from relay.errors import TransportError, UsageError
from relay.http.reqwest_transport import ReqwestTransport
from relay.message import Message, parse_envelope
from relay.outcome import Delivered, Outcome, Retry, Throttled, Unauthorised, Unregistered
from relay.sandbox.apns import ApnsStandIn
from relay.sandbox.exchange import Call, Verdict
from relay.sandbox.identity import CA, CA_KEY, SIGNING_KEY, Identity, identify
from relay.sandbox.options import Faults, SandboxOptions
from relay.sandbox.server import Sandbox

NOW = 1_800_001_000.0
DEVICE = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"
TOPIC = SandboxOptions.apns_topic
MESSAGE_ID = "0190a000-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def identity() -> Identity:
    return identify(None, TOPIC)


def token(identity: Identity, issued: Any = NOW, kid: str = "", iss: str = "", **header: Any) -> str:
    options = SandboxOptions()
    issued = int(issued) if isinstance(issued, float) else issued
    claims = {"iss": iss or options.apns_team_id, "iat": issued}
    header = {"kid": kid or options.apns_key_id, **header}
    # Without PyJWT's own checks of what is claimed: some are wrong on purpose.
    body = json.dumps(claims).encode()
    return jwt.PyJWS().encode(body, identity.signing_key, header.pop("alg", "ES256"), headers=header)


class Judge:
    """A stand-in whose clock is set; `reason` is what it says to a request that differs in one thing."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.now = NOW
        self.stand_in = ApnsStandIn(SandboxOptions(), identity, clock=lambda: self.now)

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
        return self.stand_in.judge(
            Call(method, path, {}, given, body, connection=connection, certified=certified)
        )

    def reason(self, **differing: Any) -> tuple[int, str]:
        answer = self.judge(**differing).answer
        return answer.status, json.loads(answer.body)["reason"] if answer.body else ""


@pytest.fixture
def judge(identity: Identity) -> Judge:
    return Judge(identity)


# What is looked at


def test_a_right_push_is_taken_and_its_id_comes_back(judge: Judge) -> None:
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
def test_what_apple_refuses_is_refused_with_apple_s_reason(
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
def test_a_token_is_ours_and_of_the_last_hour(judge: Judge, claims: dict[str, Any], reason: str) -> None:
    found = judge.reason(headers={"authorization": f"bearer {token(judge.identity, **claims)}"})
    assert found == ((403, reason) if reason else (200, ""))


def test_a_token_that_another_key_signed_or_that_is_none_is_invalid(judge: Judge) -> None:
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


def test_a_certificate_stands_for_a_token_but_not_for_all_push_types(judge: Judge) -> None:
    certified = {"authorization": None, "apns-topic": None}
    assert judge.reason(headers=certified, certified=True) == (200, "")
    location = {**certified, "apns-push-type": "location"}
    assert judge.reason(headers=location, certified=True) == (403, "Forbidden")


# Over HTTP/2


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(seed=1)) as running:
        yield running


def options(sandbox: Sandbox, **fields: Any) -> ApnsOptions:
    settings = ApnsStandIn(sandbox.options, sandbox._identity).settings(sandbox.apns_url)
    return ApnsOptions.model_validate({**settings, **fields})


class Sender:
    """relay's adapter over its own transport."""

    def __init__(self, chosen: ApnsOptions, concurrency: int = 64, timeout: float = 10) -> None:
        self.apns = Apns("apns", chosen)
        assert chosen.ca is not None
        identity = None
        if chosen.client_cert and chosen.client_key:
            identity = f"{chosen.client_cert.get_secret_value()}\n{chosen.client_key.get_secret_value()}"
        self.transport = ReqwestTransport(
            timeout=timeout,
            concurrency=concurrency,
            ca=chosen.ca.get_secret_value(),
            identity=identity,
            http2=True,
            connections=1,
        )

    async def push(self, payload: Any = None, **envelope: Any) -> Outcome:
        payload = {"device_token": DEVICE, "aps": {"alert": "Hi"}, **(payload or {})}
        element = json.dumps({"id": "a", **envelope, "payload": payload}).encode()
        return await self.send(parse_envelope(element, "notifications", time.time())[1])

    async def send(self, message: Message) -> Outcome:
        assert self.apns.check(message) is None
        (outcome,) = await self.apns.deliver([message])
        return outcome

    async def __aenter__(self) -> Sender:
        await self.apns.start(self.transport)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.transport.close()


async def test_a_push_arrives_and_is_shown(sandbox: Sandbox) -> None:
    async with Sender(options(sandbox)) as sender:
        outcome = await sender.push(id=MESSAGE_ID, ttl="1h", priority="low")
        assert outcome == Delivered(MESSAGE_ID)
        (entry,) = sandbox.journal.latest()
        assert (entry["provider"], entry["target"], entry["event"]) == ("apns", DEVICE, "alert")
        assert (entry["message_id"], entry["body"]) == (MESSAGE_ID, '{"aps":{"alert": "Hi"}}')
        assert "takes our credentials (400 BadDeviceToken)" in await sender.apns.verify()


async def test_the_first_push_is_alone_and_then_many_share_a_connection(sandbox: Sandbox) -> None:
    async with Sender(options(sandbox), concurrency=300) as sender:
        await sender.push(id="first")
        outcomes = await asyncio.gather(*(sender.push(id=str(number)) for number in range(300)))
    assert {type(outcome) for outcome in outcomes} == {Delivered}
    stats = sandbox.journal.stats()["apns"]
    assert (stats["accepted"], stats["duplicates"]) == (301, 0)


async def test_a_storm_on_a_new_connection_is_served_by_one_stream_and_then_by_many(sandbox: Sandbox) -> None:
    async with Sender(options(sandbox), concurrency=300) as sender:
        outcomes = await asyncio.gather(*(sender.push(id=str(number)) for number in range(300)))
    assert {type(outcome) for outcome in outcomes} == {Delivered}


async def test_a_certificate_of_the_sandbox_is_let_in_and_another_is_not(sandbox: Sandbox) -> None:
    def by(identity: Identity) -> ApnsOptions:
        pair = {"client_cert": identity.client.decode(), "client_key": identity.client_key.decode()}
        return options(sandbox, key=None, key_id=None, team_id=None, **pair)

    async with Sender(by(sandbox._identity)) as sender:
        assert isinstance(await sender.push(), Delivered)
    async with Sender(by(identify(None, TOPIC))) as sender:
        with pytest.raises(TransportError):
            await sender.push()


async def test_the_page_s_server_gives_the_files_that_a_client_needs(user: Any) -> None:
    identity = user.sandbox._identity
    for name, pem in (
        (CA, identity.ca),
        (SIGNING_KEY, identity.signing_key),
        ("client.pem", identity.client),
    ):
        status, _, text = await user.ask("GET", f"/_sandbox/files/{name}")
        assert (status, text) == (200, pem.decode())
    assert (await user.ask("GET", f"/_sandbox/files/{CA_KEY}"))[0] == 404


# Faults


@pytest.mark.parametrize(
    ("faults", "outcome", "reason"),
    [
        ({"fail": 1}, Retry, "500 InternalServerError"),
        ({"status": 503}, Retry, "503 ServiceUnavailable"),
        ({"status": 503, "reason": "Shutdown"}, Retry, "503 Shutdown"),
        (
            {"status": 429, "reason": "TooManyProviderTokenUpdates"},
            Throttled,
            "429 TooManyProviderTokenUpdates",
        ),
        ({"rate_limit": "1/s", "burst": 1}, Retry, "429 TooManyRequests"),
        ({"status": 403}, Unauthorised, "403 InvalidProviderToken"),
        ({"status": 502}, Retry, "502"),
    ],
)
async def test_failures_to_order_speak_as_apple_does(
    sandbox: Sandbox, faults: dict[str, Any], outcome: type[Any], reason: str
) -> None:
    async with Sender(options(sandbox)) as sender:
        assert isinstance(await sender.push(), Delivered)
        sandbox.troublemaker.order(Faults.model_validate(faults))
        if "rate_limit" in faults:
            assert isinstance(await sender.push(id="b"), Delivered)
        found = await sender.push(id="c")
        assert isinstance(found, outcome)
        assert found.reason == reason


async def test_a_share_of_the_devices_is_gone_since_now(sandbox: Sandbox, user: Any) -> None:
    sandbox.troublemaker.order(Faults(unregistered=1.0))
    async with Sender(options(sandbox)) as sender:
        began = time.time()
        found = await sender.push()
    assert isinstance(found, Unregistered)
    assert (found.target, found.reason) == (DEVICE, "410 Unregistered")
    assert found.since == pytest.approx(began, abs=5)


async def test_providers_without_devices_know_none_that_is_gone(user: Any) -> None:
    await user.order(unregistered="100%")
    assert await user.hooks(1) == [410]
    assert user.sandbox.troublemaker.decide("pusher", 1, 0).answer is None


async def test_a_push_that_hangs_fails_alone_and_ends_with_the_sandbox(sandbox: Sandbox) -> None:
    async with Sender(options(sandbox), timeout=1) as sender:
        await sender.push(id="first")
        sandbox.troublemaker.order(Faults(hang=1.0))
        hanging = asyncio.create_task(sender.push(id="a"))
        await until(lambda: len(sandbox.journal.entries) == 2)
        sandbox.troublemaker.order(Faults())
        assert isinstance(await sender.push(id="b"), Delivered)
        with pytest.raises(TransportError, match="no answer within"):
            await hanging
    assert sandbox.journal.stats()["apns"]["unanswered"] == 1


async def test_a_connection_breaks_in_the_middle_of_an_answer_and_the_next_one_is_new(
    sandbox: Sandbox,
) -> None:
    async with Sender(options(sandbox)) as sender:
        sandbox.troublemaker.order(Faults(reset=1.0))
        with pytest.raises(TransportError):
            await sender.push()
        sandbox.troublemaker.order(Faults())
        assert isinstance(await sender.push(), Delivered)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


# The server


async def test_a_stop_says_goodbye_and_a_start_serves_again(sandbox: Sandbox) -> None:
    port = sandbox._http2.port
    async with Sender(options(sandbox)) as sender:
        assert isinstance(await sender.push(), Delivered)
        await sandbox.stop()
        assert not sandbox._http2.connections
        with pytest.raises(TransportError):
            await sender.push()
        await sandbox._http2.start("127.0.0.1", port, sandbox._identity.context("127.0.0.1"))
        assert isinstance(await sender.push(), Delivered)


async def test_what_is_no_http2_is_shown_the_door(sandbox: Sandbox) -> None:
    context = ssl.create_default_context(cadata=sandbox._identity.ca.decode())
    reader, writer = await asyncio.open_connection("localhost", sandbox._http2.port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()
    assert sandbox.journal.stats() == {}


async def test_the_port_of_apns_is_the_next_one_or_a_free_one() -> None:
    async with Sandbox(SandboxOptions()) as first:
        taken = first._http2.port
        async with (
            Sandbox(SandboxOptions(port=taken - 1)) if taken - 1 != port_of(first) else first as second
        ):
            assert port_of(second) + 1 != second._http2.port or second is first
        with pytest.raises(OSError):
            await Sandbox(SandboxOptions(apns_port=taken)).start()


def port_of(sandbox: Sandbox) -> int:
    return int(sandbox.url.rpartition(":")[2])


# Files


def test_a_folder_keeps_what_a_configuration_names(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    first, second = identify(folder, TOPIC), identify(folder, TOPIC)
    assert first == second
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    settings = ApnsStandIn(SandboxOptions(), first).settings("https://127.0.0.1:1")
    assert (settings["key_file"], settings["ca_file"]) == (str(folder / SIGNING_KEY), str(folder / CA))
    names = x509.load_pem_x509_certificate(first.client).subject.rfc4514_string()
    assert names == f"UID={TOPIC}"


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--dir: .*file"):
        identify(tmp_path / "file", TOPIC)
    identify(tmp_path / "a", TOPIC)
    (tmp_path / "a" / SIGNING_KEY).write_text("nonsense")
    with pytest.raises(UsageError, match="cannot be read"):
        identify(tmp_path / "a", TOPIC)
    identify(tmp_path / "b", TOPIC)
    (tmp_path / "b" / CA).write_bytes(identify(None, TOPIC).ca)
    with pytest.raises(UsageError, match=r"is not the key of ca\.pem; remove both"):
        identify(tmp_path / "b", TOPIC)


# A client that is not ours


@pytest.fixture
def foreign(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> aioapns.APNs:
    """aioapns, an independent client, led to the sandbox."""
    monkeypatch.setattr(APNsDevelopmentClientProtocol, "APNS_SERVER", "127.0.0.1")
    monkeypatch.setattr(APNsDevelopmentClientProtocol, "APNS_PORT", sandbox._http2.port)
    context = ssl.create_default_context(cadata=sandbox._identity.ca.decode())
    context.set_alpn_protocols(["h2"])
    return aioapns.APNs(
        key=sandbox._identity.signing_key.decode(),
        key_id=sandbox.options.apns_key_id,
        team_id=sandbox.options.apns_team_id,
        topic=TOPIC,
        use_sandbox=True,
        ssl_context=context,
    )


CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # relay's payload, relay's envelope, aioapns' arguments
    ({}, {}, {}),
    ({}, {"ttl": 600, "priority": "high"}, {"time_to_live": 600, "priority": 10}),
    ({}, {"collapse_key": "score", "priority": "low"}, {"collapse_key": "score", "priority": 5}),
    (
        {"aps": {"content-available": 1}, "order": [1, "ж"]},
        {},
        {"push_type": aioapns.PushType.BACKGROUND, "priority": 5},
    ),
    (
        {"headers": {"apns-push-type": "voip"}, "call": {"from": "x"}},
        {},
        {"push_type": aioapns.PushType.VOIP, "apns_topic": f"{TOPIC}.voip"},
    ),
    (
        {"headers": {"apns-topic": f"{TOPIC}.complication", "apns-push-type": "complication"}},
        {"id": "no uuid"},
        {"push_type": aioapns.PushType.COMPLICATION, "apns_topic": f"{TOPIC}.complication"},
    ),
]


@pytest.mark.parametrize(("payload", "envelope", "arguments"), CASES)
async def test_requests_agree_with_those_of_an_independent_client(
    sandbox: Sandbox,
    foreign: aioapns.APNs,
    payload: dict[str, Any],
    envelope: dict[str, Any],
    arguments: dict[str, Any],
) -> None:
    calls: list[Call] = []
    push = sandbox._http2.attend

    async def noted(call: Call) -> Any:
        calls.append(call)
        return await push(call)

    sandbox._http2.attend = noted
    async with Sender(options(sandbox)) as sender:
        outcome = await sender.push(payload, **{"id": MESSAGE_ID, **envelope})
    assert isinstance(outcome, Delivered)
    content = {name: value for name, value in payload.items() if name != "headers"}
    request = aioapns.NotificationRequest(
        DEVICE,
        {"aps": {"alert": "Hi"}, **content},
        notification_id=outcome.provider_id,
        **{"push_type": aioapns.PushType.ALERT, **arguments},
    )
    assert (await foreign.send_notification(request)).is_successful
    ours, theirs = map(seen, calls)
    for mine, yours in zip(ours.pop("apns-expiration", []), theirs.pop("apns-expiration", []), strict=True):
        assert abs(int(mine) - int(yours)) <= 2
    assert ours == theirs


def seen(call: Call) -> dict[str, Any]:
    """All that matters to APNs, in a form that can be compared."""
    names = [name.lower() for name in call.headers if name.lower().startswith("apns-")]
    authorization = call.headers["authorization"].removeprefix("bearer ")
    header = jwt.get_unverified_header(authorization)
    claims = jwt.decode(authorization, options={"verify_signature": False})
    return {
        **{name: [call.headers[name]] for name in names},
        "request": (call.method, call.path, json.loads(call.body)),
        "token": (header, sorted(claims), claims["iss"]),
    }


async def test_an_independent_client_understands_the_sandbox_s_refusals(
    sandbox: Sandbox, foreign: aioapns.APNs
) -> None:
    bad = await foreign.send_notification(aioapns.NotificationRequest("00", {"aps": {}}))
    assert (bad.status, bad.description) == ("400", "BadDeviceToken")
    sandbox.troublemaker.order(Faults(unregistered=1.0))
    gone = await foreign.send_notification(aioapns.NotificationRequest(DEVICE, {"aps": {}}))
    assert (gone.status, gone.description) == ("410", "Unregistered")
    assert abs(gone.timestamp / 1000 - time.time()) < 5
