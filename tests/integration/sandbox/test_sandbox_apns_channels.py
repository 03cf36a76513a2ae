"""Live Activities and broadcast channels of APNs: the emulator's checks, relay's adapter and its commands."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from typer.testing import CliRunner, Result

from providers._shared.apns_channels import Channels, Storage
from providers.apns import Apns
from relay.cli.apns import app
from relay.errors import TransportError, UsageError
from relay.http.request import Response
from relay.outcome import Delivered, Outcome, Unregistered
from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.exchange import Answer, Call
from relay.sandbox.identity import Identity
from relay.sandbox.options import Faults, SandboxOptions
from relay.sandbox.server import Sandbox
from testing.canned import Canned
from tests.integration.sandbox.conftest import Sender, apns_options, over_http2

NOW = 1_800_001_000.0
TOPIC = SandboxOptions.apns_topic
MANAGEMENT = f"/1/apps/{TOPIC}/channels"
BROADCAST = f"/4/broadcasts/apps/{TOPIC}"
REQUEST_ID = "2288cf3f-70d8-46a6-97d7-dd5d00867127"
UPDATE = b'{"aps":{"timestamp":1800001000,"event":"update","content-state":{"home":2}}}'


class Judge:
    """An emulator with two channels: `silent` stores nothing, `storing` the latest push."""

    def __init__(self, identity: Identity) -> None:
        options = SandboxOptions()
        self.emulator = ApnsEmulator(options, identity, clock=lambda: NOW)
        claims = {"iss": options.apns_team_id, "iat": int(NOW)}
        token = jwt.encode(claims, identity.signing_key, "ES256", headers={"kid": options.apns_key_id})
        self.authorization = f"bearer {token}"
        self.silent, self.storing = (
            self.ask("POST", MANAGEMENT, create(policy)).headers["apns-channel-id"] for policy in (0, 1)
        )

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str | None) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        merged = {"authorization": self.authorization, **named}
        given = {name: value for name, value in merged.items() if value is not None}
        return self.emulator.judge(Call(method, path, {}, given, body, connection=1)).answer

    def broadcast(self, body: bytes = UPDATE, path: str = BROADCAST, **headers: str | None) -> Answer:
        right: dict[str, str | None] = {
            "apns_channel_id": self.silent,
            "apns_push_type": "liveactivity",
            "apns_priority": "10",
            "apns_expiration": "0",
        }
        return self.ask("POST", path, body, **{**right, **headers})


@pytest.fixture
def judge(identity: Identity) -> Judge:
    return Judge(identity)


def create(policy: int = 0, **fields: Any) -> bytes:
    return json.dumps({"message-storage-policy": policy, "push-type": "LiveActivity", **fields}).encode()


def test_a_channel_is_created_read_listed_and_deleted(judge: Judge) -> None:
    created = judge.ask("POST", MANAGEMENT, create(1), apns_request_id=REQUEST_ID)
    channel = created.headers["apns-channel-id"]
    assert (created.status, created.body) == (201, b"")
    assert created.headers["apns-request-id"] == REQUEST_ID
    assert base64.b64decode(channel, validate=True)
    read = judge.ask("GET", MANAGEMENT, apns_channel_id=channel)
    assert json.loads(read.body) == {"message-storage-policy": 1, "push-type": "LiveActivity"}
    listed = judge.ask("GET", f"/1/apps/{TOPIC}/all-channels")
    assert json.loads(listed.body) == {"channels": [judge.silent, judge.storing, channel]}
    assert judge.ask("DELETE", MANAGEMENT, apns_channel_id=channel).status == 204
    gone = judge.ask("DELETE", MANAGEMENT, apns_channel_id=channel)
    assert (gone.status, gone.body) == (400, b'{"reason":"ChannelNotRegistered"}')


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "refusal"),
    [
        ("POST", MANAGEMENT, b"", {}, (400, "BadRequestPayload")),
        ("POST", MANAGEMENT, b"{", {}, (400, "BadRequestPayload")),
        ("POST", MANAGEMENT, b'{"message-storage-policy":1}', {}, (400, "MissingPushType")),
        ("POST", MANAGEMENT, create(0, **{"push-type": "alert"}), {}, (400, "InvalidPushType")),
        ("POST", MANAGEMENT, create(2), {}, (400, "BadRequestParams")),
        ("POST", MANAGEMENT, create(0, name="finals"), {}, (400, "BadRequestParams")),
        ("POST", MANAGEMENT, create(), {"authorization": None}, (403, "MissingProviderToken")),
        ("POST", MANAGEMENT, create(), {"authorization": "bearer x"}, (403, "InvalidProviderToken")),
        ("POST", MANAGEMENT, create(), {"apns_request_id": "17"}, (400, "BadMessageId")),
        ("POST", "/1/apps/com.example.other/channels", create(), {}, (403, "TopicMismatch")),
        ("POST", f"/1/apps/{TOPIC}.push-type.liveactivity/channels", create(), {}, (400, "TopicDisallowed")),
        ("GET", MANAGEMENT, b"", {}, (400, "MissingChannelId")),
        ("GET", MANAGEMENT, b"", {"apns_channel_id": "a b"}, (400, "BadChannelId")),
        ("GET", MANAGEMENT, b"", {"apns_channel_id": "AAAA" * 65}, (400, "BadChannelId")),
        ("GET", MANAGEMENT, b"", {"apns_channel_id": "AAAA"}, (400, "ChannelNotRegistered")),
        ("PUT", MANAGEMENT, b"", {}, (405, "MethodNotAllowed")),
        ("POST", f"/1/apps/{TOPIC}/all-channels", b"", {}, (405, "MethodNotAllowed")),
        ("GET", f"/1/apps/{TOPIC}/chanels", b"", {}, (404, "BadPath")),
    ],
)
def test_a_wrong_management_request_is_refused_with_apple_s_reason(
    judge: Judge,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str | None],
    refusal: tuple[int, str],
) -> None:
    answer = judge.ask(method, path, body, **headers)
    assert (answer.status, json.loads(answer.body)["reason"]) == refusal
    assert "apns-request-id" in answer.headers


@pytest.mark.parametrize(
    ("differing", "refusal"),
    [
        ({"path": "/4/broadcasts/apps/com.example.other"}, (403, "TopicMismatch")),
        ({"path": f"{BROADCAST}.push-type.liveactivity"}, (400, "TopicDisallowed")),
        ({"path": f"{BROADCAST}/x"}, (404, "BadPath")),
        ({"apns_channel_id": None}, (400, "MissingChannelId")),
        ({"apns_channel_id": "a b"}, (400, "BadChannelId")),
        ({"apns_channel_id": "AAAA"}, (400, "ChannelNotRegistered")),
        ({"apns_push_type": None}, (400, "MissingPushType")),
        ({"apns_push_type": "alert"}, (400, "InvalidPushType")),
        ({"apns_priority": None}, (400, "BadPriority")),
        ({"apns_priority": "7"}, (400, "BadPriority")),
        ({"apns_expiration": None}, (400, "BadExpirationDate")),
        ({"apns_expiration": "soon"}, (400, "BadExpirationDate")),
        ({"apns_expiration": "1800001090"}, (400, "BadExpirationDate")),
        ({"body": b""}, (400, "PayloadEmpty")),
        ({"body": b"{}"}, (400, "PayloadEmpty")),
        ({"body": b"{"}, (400, "BadRequestPayload")),
        ({"body": UPDATE.ljust(5121)}, (413, "PayloadTooLarge")),
    ],
)
def test_a_wrong_broadcast_is_refused_with_apple_s_reason(
    judge: Judge, differing: dict[str, Any], refusal: tuple[int, str]
) -> None:
    answer = judge.broadcast(**differing)
    assert (answer.status, json.loads(answer.body)["reason"]) == refusal


def test_a_right_broadcast_is_accepted(judge: Judge) -> None:
    assert judge.broadcast(UPDATE.ljust(5120)).status == 200
    assert judge.broadcast(apns_channel_id=judge.storing, apns_expiration="1800001090").status == 200
    answer = judge.broadcast(apns_request_id=REQUEST_ID, apns_push_type="Liveactivity")
    assert answer.headers["apns-request-id"] == REQUEST_ID


# relay's adapter over real HTTP/2


@pytest.fixture
async def sender(sandbox: Sandbox) -> AsyncIterator[Sender[Apns]]:
    adapter = Apns("apns", apns_options(sandbox))
    async with Sender(adapter, over_http2(sandbox), **json.loads(UPDATE)) as sender:
        yield sender


async def push(sender: Sender[Apns], channel: str, **envelope: Any) -> Outcome:
    return await sender.push({"channel_id": channel}, **{"id": REQUEST_ID, **envelope})


async def test_a_channel_that_relay_creates_carries_its_broadcasts(
    sandbox: Sandbox, sender: Sender[Apns]
) -> None:
    channels = sender.adapter.channels()
    channel = await channels.create(Storage.LATEST)
    assert await push(sender, channel) == Delivered(REQUEST_ID)
    (entry,) = sandbox.request_log.latest()
    assert (entry["target"], entry["event"]) == (f"channel {channel}", "liveactivity")
    assert json.loads(entry["body"]) == json.loads(UPDATE)
    assert await channels.list() == [channel]
    assert await channels.storage(channel) is Storage.LATEST
    await channels.delete(channel)
    assert await channels.list() == []
    gone = await push(sender, channel)
    assert gone == Unregistered(channel, "400 ChannelNotRegistered", 400)


async def test_a_ttl_reaches_only_channels_that_store_pushes(calls: list[Call], sender: Sender[Apns]) -> None:
    """APNs does not report which channels do: the first push to a channel that stores nothing is sent
    twice."""
    channels = sender.adapter.channels()
    storing, silent = await channels.create(Storage.LATEST), await channels.create(Storage.NONE)
    del calls[:]
    for channel in (storing, silent, silent):
        assert isinstance(await push(sender, channel, ttl=60), Delivered)
    expires = [(call.headers["apns-channel-id"], call.headers["apns-expiration"] != "0") for call in calls]
    assert expires == [(storing, True), (silent, True), (silent, False), (silent, False)]


async def test_devices_that_are_gone_do_not_disturb_the_management_of_channels(
    sandbox: Sandbox, sender: Sender[Apns]
) -> None:
    sandbox.fault_injector.replace(Faults(unregistered=1.0))
    assert await sender.adapter.channels().list() == []


async def test_a_refused_management_request_names_the_remedy(sandbox: Sandbox, sender: Sender[Apns]) -> None:
    sandbox.fault_injector.replace(Faults(status=400, reason="FeatureNotEnabled"))
    with pytest.raises(UsageError, match="400 FeatureNotEnabled: enable Broadcast Capability"):
        await sender.adapter.channels().create(Storage.NONE)


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"channels":7}'])
async def test_an_answer_without_channels_is_no_empty_list(body: bytes) -> None:
    with pytest.raises(TransportError, match="without a list of channels"):
        await channels_of(Response(200, {}, body)).list()
    with pytest.raises(TransportError, match="without the storage policy"):
        await channels_of(Response(200, {}, body)).storage("AAAA")


async def test_a_list_that_was_cut_off_is_an_error() -> None:
    cut = Response(200, {}, b'{"channels":["AAAA","BB', "the body is longer than 64 KiB")
    with pytest.raises(TransportError, match="longer than 64 KiB"):
        await channels_of(cut).list()


def channels_of(response: Response) -> Channels:
    """Channels at a server with one answer, which the emulator never gives."""
    return Channels(Canned(response), "https://127.0.0.1", TOPIC, dict)


# relay's commands


async def test_an_operator_creates_lists_and_deletes_channels(sandbox: Sandbox, tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(yaml.safe_dump({"queues": [{"name": "notifications"}]}) + sandbox.providers_yaml())

    async def channels(*words: str) -> Result:
        """Run the command in this process, because five more would cost seconds."""
        arguments = ["channels", *words, "-c", str(config)]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments)

    created = await channels("create", "apns", "--storage", "latest")
    assert created.exit_code == 0, created.exception
    channel = created.stdout.strip()
    assert json.loads((await channels("list", "apns", "--json")).stdout) == [channel]
    assert (await channels("show", "apns", channel)).stdout == "latest\n"
    deleted = await channels("delete", "apns", channel)
    assert (deleted.exit_code, deleted.stdout) == (0, "")
    assert (await channels("list", "apns")).stdout == ""
    refused = await channels("show", "apns", channel)
    assert isinstance(refused.exception, UsageError)
    assert "400 ChannelNotRegistered: no such channel" in str(refused.exception)
    other = await channels("list", "webhook")
    assert isinstance(other.exception, UsageError)
    assert "`type: webhook` has no broadcast channels; `apns` has" in str(other.exception)
