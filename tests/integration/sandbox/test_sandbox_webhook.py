"""The receiver of webhooks, compared with a reference library as signer."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.sandbox.exchange import Refused
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.sandbox.webhook import check_signature, signing_key

EXAMPLE = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
EXAMPLE_BODY = b'{"test": 2432232314}'
EXAMPLE_KEY = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@pytest.mark.parametrize("path", ["/webhook", "/webhook/", "/webhook/a/b%20c?d=e"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
async def test_the_official_signer_is_accepted_on_any_path_by_any_method(
    user: Any, method: str, path: str
) -> None:
    body = '{"text": "☃"}'
    assert (await user.ask(method, path, data=body.encode(), headers=user.signed(body)))[0] == 200
    entry = user.sandbox.request_log.entries[0]
    assert (entry.event, entry.message_id, entry.body, entry.status) == (method, "msg_1", body, 200)


async def test_every_change_to_a_signed_request_is_refused(user: Any) -> None:
    body = '{"a": 1}'
    right = user.signed(body)
    for changes, sent, why in (
        ({}, '{"a":1}', "no v1 signature"),
        ({"webhook-id": "msg_2"}, body, "no v1 signature"),
        ({"webhook-signature": right["webhook-signature"].replace("v1,", "v1a,")}, body, "no v1 signature"),
        ({"webhook-signature": "v1,é"}, body, "no v1 signature"),
        ({"webhook-timestamp": "soon"}, body, "must be Unix seconds"),
        ({"webhook-timestamp": "1_0"}, body, "must be Unix seconds"),
        ({"webhook-id": ""}, body, "webhook-id is missing"),
    ):
        status, _, text = await user.ask("POST", "/webhook", data=sent, headers={**right, **changes})
        assert (status, why in text) == (401, True), text
    stats = user.sandbox.request_log.stats()["webhook"]
    assert (stats["accepted"], stats["refused"], stats["duplicates"]) == (0, 7, 0)


@pytest.mark.parametrize(("seconds", "status"), [(-290, 200), (290, 200), (-310, 401), (310, 401)])
async def test_a_timestamp_may_be_five_minutes_off(user: Any, seconds: int, status: int) -> None:
    headers = user.signed("{}", moment=datetime.now(UTC) + timedelta(seconds=seconds))
    assert (await user.ask("POST", "/webhook", data="{}", headers=headers))[0] == status


def test_the_specification_s_own_example_is_accepted() -> None:
    check_signature(EXAMPLE, EXAMPLE_BODY, EXAMPLE_KEY, 1614265330)
    rotated = {**EXAMPLE, "webhook-signature": "v1,AAAA v1a,x " + EXAMPLE["webhook-signature"]}
    check_signature(rotated, EXAMPLE_BODY, EXAMPLE_KEY, 1614265330 + 300)
    with pytest.raises(Refused, match="off by 301 s"):
        check_signature(EXAMPLE, EXAMPLE_BODY, EXAMPLE_KEY, 1614265330 + 301)


def test_a_signature_by_ed25519_is_checked_by_the_public_key() -> None:
    secret = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
    right = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
    signed = {**EXAMPLE, "webhook-signature": f"v1,AAAA v1a,é v1a,AAAA {right}"}
    check_signature(signed, EXAMPLE_BODY, signing_key(secret), 1614265330)
    for headers, body in ((signed, b"{}"), (EXAMPLE, EXAMPLE_BODY)):
        with pytest.raises(Refused, match="no v1a signature"):
            check_signature(headers, body, signing_key(secret), 1614265330)


async def test_a_receiver_without_a_secret_needs_no_signature() -> None:
    async with Sandbox(replace(SandboxOptions(), webhook_secret="")) as sandbox, ClientSession() as session:
        async with session.post(f"{sandbox.url}/webhook", data=b"\xff") as answer:
            assert answer.status == 200
        assert "whsec_" not in sandbox.providers_yaml()


def test_an_invalid_secret_is_an_error_at_once() -> None:
    for wrong in ("whsec_%%%", "whsec_", "é"):
        with pytest.raises(ValueError, match="must be whsec_"):
            Sandbox(SandboxOptions(webhook_secret=wrong))
    assert signing_key("whsec_" + base64.b64encode(b"four").decode().rstrip("=")) == b"four"
