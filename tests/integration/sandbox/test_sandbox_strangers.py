"""Emulators answer any input and never fail themselves."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from relay.sandbox import fcm_account, fcm_message, jws, vapid
from relay.sandbox.apns import ApnsEmulator
from relay.sandbox.exchange import Call, Emulator
from relay.sandbox.identity import identify
from relay.sandbox.options import SandboxOptions
from relay.sandbox.request_log import RequestLog
from relay.sandbox.server import emulators
from relay.sandbox.subscriptions import Subscriptions

IDENTITY = identify(None, "")
SUBSCRIPTIONS = Subscriptions(b"secret")
STAND_INS: list[Emulator] = [
    *emulators(SandboxOptions(), IDENTITY, SUBSCRIPTIONS),
    ApnsEmulator(SandboxOptions(), IDENTITY),
]
ACCOUNT = fcm_account.read(IDENTITY.account)
PATHS = {
    "pusher": "/apps/1/events",
    "webhook": "/webhook/",
    "oauth": "/token",
    "fcm": f"/v1/projects/{ACCOUNT.project}/messages:send",
    "webpush": f"/push/{SUBSCRIPTIONS.make().identity}",
    "apns": f"/3/device/{'0a' * 32}",
}
NAMES = [
    *("authorization", "content-type", "content-encoding", "host", "ttl", "topic", "urgency"),
    *("apns-topic", "apns-id", "apns-push-type", "apns-priority", "apns-expiration", "webhook-id"),
]
TEXTS = st.text(max_size=30) | st.text(max_size=10).map(lambda text: f"{text}\udcff")
VALUES = TEXTS | st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "aes128gcm",
        f"Bearer {ACCOUNT.grant(2e9)}",
        "bearer e30.e30.YQ",
        "vapid t=e30.e30.YQ, k=BA",
    ]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


def bodies() -> st.SearchStrategy[bytes]:
    wrapped = JSON.map(lambda part: {"message": part})
    return st.binary(max_size=200) | (JSON | wrapped).map(lambda part: json.dumps(part).encode())


@pytest.mark.parametrize("emulator", STAND_INS, ids=lambda each: each.name)
@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    more=st.just("") | TEXTS,
    headers=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6),
    body=bodies(),
)
def test_any_request_gets_an_answer(
    emulator: Emulator, method: str, more: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    verdict = emulator.judge(Call(method, PATHS[emulator.name] + more, {}, CIMultiDict(headers), body))
    assert 200 <= verdict.answer.status < 500
    request_log = RequestLog()
    request_log.add(emulator.name, verdict.answer.status, verdict.messages)
    # The page shows it.
    msgspec.json.encode(request_log.latest())


@settings(max_examples=300, deadline=None)
@given(part=JSON, name=st.sampled_from([*fcm_message.FcmMessage.model_fields, "other"]))
def test_any_message_is_valid_or_wrong_in_a_field(part: Any, name: str) -> None:
    with suppress(fcm_message.Wrong):
        fcm_message.read({"token": "device-1", name: part})


@settings(max_examples=300, deadline=None)
@given(text=TEXTS | st.binary(max_size=40).map(jws.encoded).map(lambda part: f"{part}.e30.{part}"))
def test_any_text_is_a_token_or_none(text: str) -> None:
    with pytest.raises(jws.InvalidToken):
        jws.read(text).verify(IDENTITY.public_key())
    with pytest.raises(jws.InvalidToken):
        vapid.sender(f"vapid t={text}, k={text}", "http://127.0.0.1", 0)
    assert not ACCOUNT.knows(text, 0)
    assert SUBSCRIPTIONS.find(text) is None
