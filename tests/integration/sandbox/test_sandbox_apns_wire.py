"""The APNs emulator over real HTTP/2, with relay's own transport and with an independent client."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import aioapns
import jwt
import pytest
from aioapns.connection import APNsDevelopmentClientProtocol

from providers.apns import Apns
from relay.errors import TransportError
from relay.outcome import Delivered, Retry, Unregistered
from relay.sandbox.exchange import Call
from relay.sandbox.identity import CA, CA_KEY, SIGNING_KEY, Identity, identify
from relay.sandbox.options import Faults, SandboxOptions
from relay.sandbox.server import Sandbox
from tests.integration.sandbox.conftest import DEVICE, Sender, apns, apns_options, until

NOW = 1_800_001_000.0
TOPIC = SandboxOptions.apns_topic
MESSAGE_ID = "0190a000-0000-7000-8000-000000000001"


async def test_a_push_arrives_and_is_shown(sandbox: Sandbox) -> None:
    async with apns(sandbox) as sender:
        outcome = await sender.push(id=MESSAGE_ID, ttl="1h", priority="low")
        assert outcome == Delivered(MESSAGE_ID)
        (entry,) = sandbox.request_log.latest()
        assert (entry["provider"], entry["target"], entry["event"]) == ("apns", DEVICE, "alert")
        assert (entry["message_id"], entry["body"]) == (MESSAGE_ID, '{"aps":{"alert": "Hi"}}')
        assert "accepts our credentials (400 BadDeviceToken)" in await sender.adapter.verify()


@pytest.mark.parametrize("first", [True, False])
async def test_a_burst_over_one_connection_is_accepted_whole(sandbox: Sandbox, first: bool) -> None:
    """A new connection has one stream until a push succeeds, and many after that."""
    async with apns(sandbox, concurrency=300) as sender:
        if first:
            await sender.push(id="first")
        outcomes = await asyncio.gather(*(sender.push(id=str(number)) for number in range(300)))
    assert {type(outcome) for outcome in outcomes} == {Delivered}
    stats = sandbox.request_log.stats()["apns"]
    assert (stats["accepted"], stats["duplicates"]) == (300 + first, 0)


async def test_a_certificate_of_the_sandbox_is_accepted_and_another_is_refused(sandbox: Sandbox) -> None:
    def by(identity: Identity) -> Sender[Apns]:
        pair = identity.client.decode(), identity.client_key.decode()
        named = dict(zip(("client_cert", "client_key"), pair, strict=True))
        options = apns_options(sandbox, key=None, key_id=None, team_id=None, **named)
        return apns(sandbox, options, identity=pair)

    async with by(sandbox.identity) as sender:
        assert isinstance(await sender.push(), Delivered)
    async with by(identify(None, TOPIC)) as sender:
        with pytest.raises(TransportError):
            await sender.push()


async def test_the_sandbox_serves_the_files_that_clients_need(user: Any) -> None:
    identity = user.sandbox.identity
    for name, pem in (
        (CA, identity.ca),
        (SIGNING_KEY, identity.signing_key),
        ("client.pem", identity.client),
    ):
        status, _, text = await user.ask("GET", f"/_sandbox/files/{name}")
        assert (status, text) == (200, pem.decode())
    assert (await user.ask("GET", f"/_sandbox/files/{CA_KEY}"))[0] == 404


# Faults


async def test_a_share_of_the_devices_is_gone_since_now(sandbox: Sandbox, user: Any) -> None:
    sandbox.fault_injector.replace(Faults(unregistered=1.0))
    async with apns(sandbox) as sender:
        began = time.time()
        found = await sender.push()
    assert isinstance(found, Unregistered)
    assert (found.target, found.reason) == (DEVICE, "410 Unregistered")
    assert found.since == pytest.approx(began, abs=120)


async def test_providers_without_devices_have_none_that_are_gone(user: Any) -> None:
    await user.order(unregistered="100%")
    assert await user.hooks(1) == [410]
    assert user.sandbox.fault_injector.decide("pusher", 1, 0).answer is None


async def test_a_push_that_hangs_fails_alone_and_ends_with_the_sandbox(sandbox: Sandbox) -> None:
    async with apns(sandbox, timeout=6) as sender:
        await sender.push(id="first")
        sandbox.fault_injector.replace(Faults(hang=1.0))
        hanging = asyncio.create_task(sender.push(id="a"))
        await until(lambda: len(sandbox.request_log.entries) == 2)
        sandbox.fault_injector.replace(Faults())
        assert isinstance(await sender.push(id="b"), Delivered)
        with pytest.raises(TransportError, match="no answer within"):
            await hanging
    assert sandbox.request_log.stats()["apns"]["unanswered"] == 1


async def test_a_connection_breaks_in_the_middle_of_an_answer_and_the_next_one_is_new(
    sandbox: Sandbox,
) -> None:
    async with apns(sandbox) as sender:
        sandbox.fault_injector.replace(Faults(reset=1.0))
        with pytest.raises(TransportError):
            await sender.push()
        sandbox.fault_injector.replace(Faults())
        assert isinstance(await sender.push(), Delivered)


# The server


async def test_a_sandbox_that_stopped_serves_again_after_a_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sandbox = Sandbox(SandboxOptions(apns_port=port))
    await sandbox.start()
    async with apns(sandbox) as sender:
        assert isinstance(await sender.push(), Delivered)
        await sandbox.stop()
        with pytest.raises(TransportError):
            await sender.push()
        async with sandbox:
            assert isinstance(await sender.push(), Delivered)


async def test_an_injected_shutdown_costs_a_connection_and_no_message(
    sandbox: Sandbox, calls: list[Call]
) -> None:
    async with apns(sandbox) as sender:
        assert isinstance(await sender.push(id="first"), Delivered)
        order = {"status": 503, "reason": "Shutdown", "times": 1, "latency": "5ms-20ms"}
        sandbox.fault_injector.replace(Faults.model_validate(order))
        outcomes = await asyncio.gather(*(sender.push(id=str(number)) for number in range(40)))
        (refused,) = [found for found in outcomes if not isinstance(found, Delivered)]
        assert isinstance(refused, Retry)
        assert refused.reason == "503 Shutdown"
        assert isinstance(await sender.push(id="last"), Delivered)
        assert calls[-1].connection != calls[0].connection
    assert sandbox.request_log.stats()["apns"]["duplicates"] == 0


# An independent client


@pytest.fixture
def foreign(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> aioapns.APNs:
    """aioapns, an independent client, pointed to the sandbox."""
    monkeypatch.setattr(APNsDevelopmentClientProtocol, "APNS_SERVER", "127.0.0.1")
    monkeypatch.setattr(APNsDevelopmentClientProtocol, "APNS_PORT", urlsplit(sandbox.apns_url).port)
    context = ssl.create_default_context(cadata=sandbox.identity.ca.decode())
    context.set_alpn_protocols(["h2"])
    return aioapns.APNs(
        key=sandbox.identity.signing_key.decode(),
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
        {
            "aps": {
                "timestamp": 1_800_001_000,
                "event": "start",
                "attributes-type": "MatchAttributes",
                "attributes": {"home": "Lions"},
                "content-state": {"home": 0},
                "alert": {"title": "Kick-off", "body": "Lions - Bears"},
            }
        },
        {"priority": "high", "ttl": 600},
        {
            "push_type": aioapns.PushType.LIVEACTIVITY,
            "apns_topic": f"{TOPIC}.push-type.liveactivity",
            "priority": 10,
            "time_to_live": 600,
        },
    ),
    (
        {"aps": {"timestamp": 1_800_006_400, "event": "end", "dismissal-date": 1_800_007_000}},
        {"priority": "low"},
        {
            "push_type": aioapns.PushType.LIVEACTIVITY,
            "apns_topic": f"{TOPIC}.push-type.liveactivity",
            "priority": 5,
        },
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
    calls: list[Call],
    foreign: aioapns.APNs,
    payload: dict[str, Any],
    envelope: dict[str, Any],
    arguments: dict[str, Any],
) -> None:
    async with apns(sandbox) as sender:
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
    """Everything that matters to APNs, in a form that can be compared."""
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
    sandbox.fault_injector.replace(Faults(unregistered=1.0))
    gone = await foreign.send_notification(aioapns.NotificationRequest(DEVICE, {"aps": {}}))
    assert (gone.status, gone.description) == ("410", "Unregistered")
    assert gone.timestamp is not None
    assert abs(gone.timestamp / 1000 - time.time()) < 60
