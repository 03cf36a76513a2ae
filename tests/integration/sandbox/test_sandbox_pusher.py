"""The Pusher emulator, compared with the official client library."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import pusher
import pytest
from multidict import CIMultiDict, MultiDict
from pusher.errors import PusherBadAuth, PusherBadRequest

from relay.sandbox.exchange import Call, Refused
from relay.sandbox.options import SandboxOptions
from relay.sandbox.pusher import PusherEmulator, check_signature
from relay.sandbox.pusher_events import events_of
from relay.sandbox.server import Sandbox

JSON = "application/json"
BOX = json.dumps({"nonce": b64encode(b"n" * 24).decode(), "ciphertext": b64encode(b"c" * 17).decode()})
"""The shape of encrypted data."""


def client(sandbox: Sandbox, **fields: Any) -> pusher.Pusher:
    options = {"app_id": "1", "key": "sandbox-key", "secret": "sandbox-secret", **fields}
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    return pusher.Pusher(host=host, port=int(port), ssl=False, **options)


async def test_the_official_client_is_accepted(sandbox: Sandbox) -> None:
    await asyncio.to_thread(client(sandbox).trigger, ["a", "b"], "new", {"text": "☃"}, "12.34")
    batch = [{"channel": "a", "name": "n", "data": str(number)} for number in range(10)]
    await asyncio.to_thread(client(sandbox).trigger_batch, batch)
    assert await asyncio.to_thread(client(sandbox).channels_info, "presence-", ["user_count"]) == {
        "channels": {}
    }
    stats = sandbox.request_log.stats()["pusher"]
    assert (stats["requests"], stats["messages"], stats["accepted"], stats["refused"]) == (3, 11, 11, 0)
    first = sandbox.request_log.entries[0]
    assert (first.target, first.event, json.loads(first.body)) == ("a, b", "new", {"text": "☃"})


async def test_a_wrong_request_of_the_official_client_is_refused(sandbox: Sandbox, lines: list[str]) -> None:
    for fields in ({"secret": "wrong"}, {"key": "wrong"}):
        with pytest.raises(PusherBadAuth):
            await asyncio.to_thread(client(sandbox, **fields).trigger, "a", "n", "d")
    with pytest.raises(PusherBadAuth):
        await asyncio.to_thread(client(sandbox, secret="wrong").channels_info)
    eleven = [{"channel": "a", "name": "n", "data": "d"}] * 11
    with pytest.raises(PusherBadRequest, match="Batch too large"):
        await asyncio.to_thread(client(sandbox).trigger_batch, eleven)
    assert sandbox.request_log.stats()["pusher"]["statuses"] == {"400": 1, "401": 3}
    assert sandbox.request_log.accepted("pusher") == 0
    assert lines[2] == "401 pusher GET /apps/1/channels"


def signed_query(path: str, body: bytes, *, secret: str = "sandbox-secret", **fields: str) -> dict[str, str]:
    query = {
        "auth_key": "sandbox-key",
        "auth_timestamp": str(int(time.time())),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(body).hexdigest(),
        **fields,
    }
    text = "&".join(f"{name}={query[name]}" for name in sorted(query))
    to_sign = f"POST\n{path}\n{text}".encode()
    return {"auth_signature": hmac.new(secret.encode(), to_sign, hashlib.sha256).hexdigest(), **query}


BODY = b'{"name":"n","data":"d","channel":"c"}'


@pytest.mark.parametrize(
    ("path", "fields", "body", "status", "text"),
    [
        ("/apps/1/events", {}, BODY, 200, "{}"),
        ("/apps/1/events", {"info": "a,b"}, BODY, 200, "{}"),
        ("/apps/2/events", {}, BODY, 404, "Could not find app by id 2"),
        ("/apps/1/events", {"auth_key": "other"}, BODY, 401, "Unknown auth_key: other"),
        ("/apps/1/events", {"auth_version": "2.0"}, BODY, 401, "Unsupported auth_version"),
        ("/apps/1/events", {"auth_timestamp": "soon"}, BODY, 401, "auth_timestamp must be Unix seconds"),
        ("/apps/1/events", {"auth_timestamp": "1000"}, BODY, 401, "Timestamp expired"),
        ("/apps/1/events", {"body_md5": "0" * 32}, BODY, 401, "Invalid body_md5"),
        ("/apps/1/events", {"auth_signature": "é"}, BODY, 401, "Invalid signature: you should have sent"),
        (
            "/apps/1/events",
            {"secret": "wrong"},
            BODY,
            401,
            'HmacSHA256Hex("POST\\n/apps/1/events\\nauth_key=',
        ),
        ("/apps/1/events", {}, b"{", 400, "not JSON"),
    ],
)
async def test_each_refusal_has_its_status_and_text(
    user: Any, path: str, fields: dict[str, str], body: bytes, status: int, text: str
) -> None:
    query = signed_query(path, body, **fields)
    query.update({name: value for name, value in fields.items() if name == "auth_signature"})
    found = await user.ask("POST", f"{path}?{urlencode(query)}", data=body, headers={"Content-Type": JSON})
    assert found[0] == status
    assert text in found[2]
    assert "sandbox-secret" not in found[2]


def a_call(query: MultiDict[str] | dict[str, str], body: bytes = b"", path: str = "/apps/3/events") -> Call:
    return Call("POST", path, MultiDict(query), CIMultiDict({"content-type": JSON}), body)


DOCUMENTED = {
    "auth_key": "278d425bdf160c739803",
    "auth_timestamp": "1353088179",
    "auth_version": "1.0",
    "body_md5": "ec365a775a4cd0599faeb73354201b6f",
    "auth_signature": "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
}
DOCUMENTED_BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'


def check_documented(query: MultiDict[str] | dict[str, str], now: float = 1353088179) -> None:
    check_signature(a_call(query, DOCUMENTED_BODY), "278d425bdf160c739803", "7ad3773142a6692b25b8", now)


def test_the_documentation_s_own_example_is_accepted_for_ten_minutes() -> None:
    for now in (1353088179, 1353088179 + 600, 1353088179 - 600):
        check_documented(DOCUMENTED, now)
    for now in (1353088179 + 601, 1353088179 - 601):
        with pytest.raises(Refused, match="Timestamp expired"):
            check_documented(DOCUMENTED, now)


def test_nothing_can_be_added_to_a_signed_query() -> None:
    for more in ([("info", "x")], [("body_md5", "again")]):
        with pytest.raises(Refused, match="Invalid signature"):
            check_documented(MultiDict([*DOCUMENTED.items(), *more]))


def test_the_case_of_a_signature_matters() -> None:
    with pytest.raises(Refused, match="Invalid signature"):
        check_documented({**DOCUMENTED, "auth_signature": DOCUMENTED["auth_signature"].upper()})


def an_event(**fields: Any) -> bytes:
    return json.dumps({"name": "n", "data": "d", "channel": "c", **fields}).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"name":"n","data":"\xff","channel":"c"}', 400),
        ('{"name":"n","data":"d","channel":"c"}'.encode("utf-16"), 400),
        (b'{"name":"n","data":"d","channel":"c","x":NaN}', 400),
        (b'{"name":"n","data":"\\ud800","channel":"c"}', 400),
        (b"[" * 100_000, 400),
        (an_event(name=None), 400),
        (an_event(name=""), 400),
        (an_event(name="x" * 201), 400),
        (an_event(name="pusher:subscribe"), 400),
        (an_event(data={"not": "a string"}), 400),
        (an_event(data=None), 400),
        (an_event(data="x" * 10241), 413),
        (an_event(data="☃" * 3414), 413),
        (an_event(channel="no spaces"), 400),
        (an_event(channel="line\n"), 400),
        (an_event(channel=""), 400),
        (an_event(channel="c" * 201), 400),
        (an_event(channel=7), 400),
        (an_event(channel=None), 400),
        (an_event(socket_id="x"), 400),
        (an_event(socket_id="1.2\n"), 400),
        (an_event(info=7), 400),
        (an_event(channels=[]), 400),
        (an_event(channels="c"), 400),
        (an_event(channels=["c"] * 101), 400),
        (an_event(channels=["c", "private-encrypted-c"]), 400),
        (an_event(channels=["private-encrypted-c"], data="plain"), 400),
        (an_event(channels=["private-encrypted-c"], data='{"nonce": "bm8=", "ciphertext": "bm8="}'), 400),
    ],
)
def test_a_single_event_beyond_the_limits_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        events_of(JSON, body, batched=False)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"batch": {}},
        {"batch": []},
        {"batch": ["event"]},
        {"batch": [{"name": "n", "data": "d", "channels": ["c"]}]},
        {"batch": [{"name": "n", "data": "d", "channel": "c"}] * 11},
    ],
)
def test_a_batch_beyond_the_limits_is_refused(document: Any) -> None:
    with pytest.raises(Refused) as caught:
        events_of(JSON, json.dumps(document).encode(), batched=True)
    assert caught.value.status == 400


def test_events_at_their_limits_are_accepted() -> None:
    for body in (
        an_event(data="x" * 10240),
        an_event(data="☃" * 3413),
        an_event(name="x" * 200, socket_id="123.456"),
        an_event(channel="c" * 200),
        an_event(channel="#server-to-user-" + "u" * 200),
        an_event(channels=[f"c-{number}" for number in range(100)]),
        an_event(channels=["private-encrypted-c"], data=BOX),
    ):
        assert len(events_of("Application/JSON; charset=utf-8", body, batched=False)) == 1
    with pytest.raises(Refused, match="Content-Type"):
        events_of("text/plain", an_event(), batched=False)


@pytest.mark.parametrize(("user", "status"), [("42", 200), ("u" * 200, 200), ("u" * 201, 400), ("a b", 400)])
def test_the_connections_of_a_user_are_ended(user: str, status: int) -> None:
    path = f"/apps/1/users/{user}/terminate_connections"
    verdict = PusherEmulator(SandboxOptions()).judge(a_call(signed_query(path, b"{}"), b"{}", path))
    assert verdict.answer.status == status
    if status == 200:
        assert [(one.target, one.event) for one in verdict.messages] == [(user, "terminate_connections")]


@pytest.mark.parametrize(
    ("call", "document", "answer"),
    [
        (
            "events",
            {
                "name": "n",
                "data": "d",
                "channels": ["presence-a", "b"],
                "info": "user_count,subscription_count",
            },
            {
                "channels": {
                    "presence-a": {"user_count": 0, "subscription_count": 0},
                    "b": {"subscription_count": 0},
                }
            },
        ),
        (
            "batch_events",
            {
                "batch": [
                    {"name": "n", "data": "d", "channel": "b", "info": "subscription_count"},
                    {"name": "n", "data": "d", "channel": "b"},
                ]
            },
            {"batch": [{"subscription_count": 0}, {}]},
        ),
    ],
)
def test_info_is_answered(call: str, document: Any, answer: Any) -> None:
    path, body = f"/apps/1/{call}", json.dumps(document).encode()
    verdict = PusherEmulator(SandboxOptions()).judge(a_call(signed_query(path, body), body, path))
    assert json.loads(verdict.answer.body) == answer
