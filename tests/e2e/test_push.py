"""FCM, APNs and Web Push through the command line: fan-outs, and the remaining lifetime, on the wire."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from redis.asyncio import Redis

from providers._shared.webpush_crypto import unpadded
from testing.http2_server import Http2Server, http2_serving
from testing.receiver import Answer, Received
from testing.relay_process import relay
from testing.site import Site

EMPTY = "--until-empty"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Http2Server]:
    async with http2_serving(tmp_path) as running:
        yield running


def pem(key: Any) -> str:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())).decode()


def apns(folder: Path, server: Http2Server, key: Any, **fields: Any) -> dict[str, Any]:
    (folder / "AuthKey.p8").write_text(pem(key))
    return {
        "type": "apns",
        "key_file": "AuthKey.p8",
        "key_id": "ABC123DEFG",
        "team_id": "DEF123GHIJ",
        "topic": "com.example.app",
        "url": server.url,
        "ca_file": str(server.ca),
        **fields,
    }


async def receipt_of(redis: Redis) -> dict[str, Any]:
    (text,) = await redis.lrange("receipts:1", 0, -1)
    receipt: dict[str, Any] = json.loads(text)
    return receipt


async def test_apns_over_http2_with_a_fan_out(site: Site, server: Http2Server) -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    def answer(request: Received) -> Answer:
        jwt.decode(request.headers["authorization"].removeprefix("bearer "), key.public_key(), ["ES256"])
        if request.path.endswith("/aa"):
            return Answer(410, b'{"reason":"Unregistered","timestamp":1700000000000}')
        return Answer(200, b"", {"apns-id": request.headers["apns-id"]})

    server.answer = answer
    site.configure({"apns": apns(site.folder, server, key)})
    assert (await site.relay("check", "--connect")).code == 0
    server.requests.clear()
    devices = [f"{number:064x}" for number in range(250)]
    message = {
        "id": "news-7",
        "ttl": "1h",
        "collapse_key": "news",
        "priority": "high",
        "reply_to": "receipts:1",
        "payload": {"targets": [*devices, "aa"], "aps": {"alert": "Hello"}},
    }
    await site.push(message)
    assert (await site.relay("run", EMPTY)).code == 0
    assert sorted(request.path for request in server.requests) == sorted(
        f"/3/device/{device}" for device in (*devices, "aa")
    )
    for request in server.requests:
        assert request.body == b'{"aps":{"alert": "Hello"}}'
        headers = request.headers
        assert (headers["apns-collapse-id"], headers["apns-priority"]) == ("news", "10")
        assert abs(int(headers["apns-expiration"]) - time.time() - 3600) < 60
    assert len({request.headers["apns-id"] for request in server.requests}) == 251
    receipt = await receipt_of(site.redis)
    assert (receipt["outcome"], receipt["targets"]) == ("partial", {"delivered": 250, "unregistered": 1})
    (gone,) = await site.feedback()
    assert (gone[b"target"], gone[b"since"]) == (b"aa", b"1700000000")


async def test_a_goaway_costs_no_message(site: Site, server: Http2Server) -> None:
    server.goaway_after = 20
    key = ec.generate_private_key(ec.SECP256R1())
    fields = {"concurrency": 4, "retry": {"base": "50ms"}}
    site.configure({"apns": apns(site.folder, server, key, **fields)})
    targets = [f"{number:04x}" for number in range(200)]
    message = {"id": "a", "reply_to": "receipts:1", "payload": {"targets": targets, "aps": {}}}
    await site.push(message)
    assert (await site.relay("run", EMPTY)).code == 0
    assert {request.path.rpartition("/")[2] for request in server.requests} == set(targets)
    assert (await receipt_of(site.redis))["targets"] == {"delivered": 200}
    assert server.connections >= 9


async def test_fcm_with_a_token_of_its_own_getting(site: Site, server: Http2Server) -> None:
    key = rsa.generate_private_key(65537, 2048)
    account = {
        "project_id": "shop",
        "private_key_id": "k1",
        "private_key": pem(key),
        "client_email": "relay@shop.iam.gserviceaccount.com",
        "token_uri": f"{server.url}/token",
    }
    (site.folder / "account.json").write_text(json.dumps(account))
    granted: list[str] = []

    def answer(request: Received) -> Answer:
        if request.path == "/token":
            form = parse_qs(request.body.decode())
            jwt.decode(form["assertion"][0], key.public_key(), ["RS256"], audience=account["token_uri"])
            granted.append(f"t{len(granted)}")
            return Answer(200, json.dumps({"access_token": granted[-1], "expires_in": 3599}).encode())
        assert request.headers["authorization"] == f"Bearer {granted[-1]}"
        if json.loads(request.body)["message"]["token"] == "gone":
            code = {
                "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
                "errorCode": "UNREGISTERED",
            }
            error = {"code": 404, "status": "NOT_FOUND", "message": "gone", "details": [code]}
            return Answer(404, json.dumps({"error": error}).encode())
        return Answer(200, b'{"name":"projects/shop/messages/1"}')

    server.answer = answer
    fcm = {
        "type": "fcm",
        "service_account_file": "account.json",
        "url": server.url,
        "ca_file": str(server.ca),
    }
    site.configure({"fcm": fcm})
    targets = [*(f"token-{number}" for number in range(120)), "gone"]
    message = {
        "id": "a",
        "ttl": 90,
        "collapse_key": "score",
        "reply_to": "receipts:1",
        "payload": {"targets": targets, "notification": {"title": "Hello"}},
    }
    await site.push(message)
    assert (await site.relay("run", EMPTY)).code == 0
    sends = [
        json.loads(r.body)["message"]
        for r in server.requests
        if r.path.endswith("/projects/shop/messages:send")
    ]
    assert sorted(send["token"] for send in sends) == sorted(targets)
    assert all(0 < int(send["android"]["ttl"].rstrip("s")) <= 90 for send in sends)
    assert {send["android"]["collapse_key"] for send in sends} == {"score"}
    assert len(granted) == 1
    assert (await receipt_of(site.redis))["targets"] == {"delivered": 120, "unregistered": 1}
    (gone,) = await site.feedback()
    assert gone[b"target"] == b"gone"


async def test_web_push_to_subscriptions_at_several_services(site: Site) -> None:
    key = (await relay("vapid", "--out", str(site.folder / "vapid.pem"))).out
    assert "applicationServerKey" in key
    browsers = {f"/push/{number}": ec.generate_private_key(ec.SECP256R1()) for number in range(40)}
    subscriptions = [
        {
            "endpoint": f"{site.receiver.url}{path}",
            "expirationTime": None,
            "keys": {
                "p256dh": unpadded(
                    browser.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
                ),
                "auth": unpadded(b"0123456789abcdef"),
            },
        }
        for path, browser in browsers.items()
    ]
    site.receiver.answer = lambda request: Answer(410 if request.path == "/push/7" else 201)
    webpush = {
        "type": "webpush",
        "private_key_file": "vapid.pem",
        "subject": "mailto:ops@example.com",
        "allow_private": True,
    }
    site.configure({"push": webpush})
    message = {
        "id": "a",
        "ttl": 600,
        "collapse_key": "score",
        "reply_to": "receipts:1",
        "payload": {"targets": subscriptions, "data": {"title": "Hello"}},
    }
    await site.push(message)
    async with site.worker():
        await site.receiver.until(40)
    assert sorted(request.path for request in site.receiver.requests) == sorted(browsers)
    for request in site.receiver.requests:
        body = http_ece.decrypt(
            request.body,
            private_key=browsers[request.path],
            auth_secret=b"0123456789abcdef",
            version="aes128gcm",
        )
        assert json.loads(body) == {"title": "Hello"}
        assert 0 < int(request.headers["ttl"]) <= 600
        assert len(request.headers["topic"]) == 32
    assert (await receipt_of(site.redis))["targets"] == {"delivered": 39, "unregistered": 1}
    (gone,) = await site.feedback()
    assert gone[b"target"].decode() == f"{site.receiver.url}/push/7"
