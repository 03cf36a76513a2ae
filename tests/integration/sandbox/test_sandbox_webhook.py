"""The receiver of webhooks, compared with a reference library as signer."""

from __future__ import annotations

import base64
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession
from stripe import WebhookSignature

from relay.sandbox.exchange import Refused
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.sandbox.signatures import Keys, check_signature

EXAMPLE = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
EXAMPLE_BODY = b'{"test": 2432232314}'
EXAMPLE_KEY = Keys.of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


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
    check_signature(signed, EXAMPLE_BODY, Keys.of(secret), 1614265330)
    for headers, body in ((signed, b"{}"), (EXAMPLE, EXAMPLE_BODY)):
        with pytest.raises(Refused, match="no v1a signature"):
            check_signature(headers, body, Keys.of(secret), 1614265330)


HUB_KEY = Keys(b"", b"It's a Secret to Everybody")
HUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""The example in GitHub's documentation."""


def test_a_hub_signature_covers_the_body() -> None:
    for name in ("X-Hub-Signature-256", "X-Anything"):
        check_signature({name: HUB_SIGNATURE}, b"Hello, World!", HUB_KEY, 0)
    with pytest.raises(Refused, match="the sha256 signature does not match"):
        check_signature({"X-Hub-Signature-256": HUB_SIGNATURE}, b"Hello, World", HUB_KEY, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"now": 300}, ""),
        ({"now": 301}, "t is off by 301 s"),
        ({"body": b"{ }"}, "no v1 signature matches"),
        ({"header": "t=1614265331,v1=" + "0" * 64}, "no v1 signature matches"),
        ({"header": "t=soon,v1=" + "0" * 64}, "webhook-id is missing"),
    ],
)
def test_a_timestamped_signature_covers_time_and_body(changes: dict[str, Any], reason: str) -> None:
    made = WebhookSignature.generate_signature_header("{}", "any text", 1614265330)
    rotated = made.replace(",v1=", f",v1={'0' * 64},v1=")
    for header in (made, rotated):
        headers = {"webhook-signature": changes.get("header", header)}
        now = 1614265330 + changes.get("now", 0)
        with pytest.raises(Refused, match=reason) if reason else nullcontext():
            check_signature(headers, changes.get("body", b"{}"), Keys(b"", b"any text"), now)


async def test_a_receiver_without_a_secret_needs_no_signature() -> None:
    async with Sandbox(replace(SandboxOptions(), webhook_secret="")) as sandbox, ClientSession() as session:
        async with session.post(f"{sandbox.url}/webhook", data=b"\xff") as answer:
            assert answer.status == 200
        assert "whsec_" not in sandbox.providers_yaml()


def test_an_invalid_secret_is_an_error_at_once() -> None:
    for wrong in ("whsec_%%%", "whsec_", "é"):
        with pytest.raises(ValueError, match="must be whsec_"):
            Sandbox(SandboxOptions(webhook_secret=wrong))
    assert Keys.of("whsec_" + base64.b64encode(b"four").decode().rstrip("=")).standard == b"four"
