"""Refused addresses and credentials of the file: the messages wait, and none becomes a dead letter."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from testing.raw_server import serving
from testing.receiver import Answer, Received
from testing.site import Site

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/push.json").read_text())
VAPID_KEY = next(v["inputs"]["private_raw_b64url"] for v in VECTORS if v["id"] == "vapid-deterministic-own")
BROWSER = next(
    {"p256dh": v["inputs"]["ua_public"], "auth": v["inputs"]["auth_secret"]}
    for v in VECTORS
    if v["id"] == "rfc8291-5-appendixA"
)
MESSAGES = 4
COOLDOWN = {"cooldown": "200ms"}
REFUSALS = {
    "/ingress": Answer(404, b"default backend - 404"),
    "/gone": Answer(410, b"gone"),
    "/method": Answer(405, b"method not allowed"),
    "/slack": Answer(403, b"invalid_token"),
    "/discord": Answer(404, b'{"message": "Unknown Webhook", "code": 10015}'),
}


def fixed(kind: str, url: str) -> dict[str, Any]:
    return {"type": kind, "url": url, "breaker": COOLDOWN}


async def test_a_wrong_address_costs_no_message_and_no_attempt(site: Site) -> None:
    deployed = asyncio.Event()
    site.receiver.answer = lambda request: Answer() if deployed.is_set() else REFUSALS[request.path]
    kinds = {"ingress": "webhook", "gone": "webhook", "method": "webhook", "slack": "http", "discord": "http"}
    providers = {name: fixed(kind, f"{site.receiver.url}/{name}") for name, kind in kinds.items()}
    site.configure(providers, [{"name": "notifications"}])
    for name in providers:
        for number in range(MESSAGES):
            envelope = {"id": f"{name}-{number}", "provider": name, "reply_to": "receipts:1"}
            await site.push({**envelope, "payload": {"n": number}})
    async with site.worker("--until-empty") as running:
        await running.says("REFUSES OUR CREDENTIALS", times=len(providers))
        deployed.set()
        assert await running.ended() == 0
    receipts = await site.receipts()
    assert len(receipts) == MESSAGES * len(providers)
    assert {(receipt["outcome"], receipt["attempts"]) for receipt in receipts} == {("delivered", 1)}
    assert await site.redis.xlen("relay:feedback") == 0


async def test_a_refusal_is_about_the_message_that_brought_url_and_credentials(site: Site) -> None:
    def answer(request: Received) -> Answer:
        return Answer(401, b"Invalid Webhook Token") if request.path.endswith("stale") else Answer()

    site.receiver.answer = answer
    discord = {"type": "http", "url": f"{site.receiver.url}/webhooks/${{payload.id}}/${{payload.token}}"}
    site.configure({"discord": discord})
    tokens = ["a", "stale", "b", "c"]
    for number, token in enumerate(tokens):
        payload = {"id": number, "token": token}
        element = {"id": token, "reply_to": "receipts:1", "payload": payload}
        await site.push(element)
    await site.drain()
    receipts = await site.receipts()
    outcomes = {receipt["id"]: receipt["outcome"] for receipt in receipts}
    assert outcomes == {"a": "delivered", "stale": "rejected", "b": "delivered", "c": "delivered"}


async def test_a_proxy_that_refuses_us_costs_no_attempt(site: Site) -> None:
    asked = asyncio.Semaphore(0)

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        asked.release()

    async with serving(proxy) as port:
        hook = {
            **fixed("webhook", "https://far.example/hook"),
            "proxy": f"http://relay:word@127.0.0.1:{port}",
        }
        site.configure({"hook": hook})
        await site.push('{"payload": {"n": 1}}')
        async with site.worker() as running:
            line = await running.says("REFUSES OUR CREDENTIALS")
            async with asyncio.timeout(120):
                for _ in range(3):
                    await asked.acquire()
            (lane,) = (await site.json("status"))["lanes"]
    assert "407 (it requires credentials)" in line["reason"]
    assert (lane["waiting"] + lane["in_flight"] + lane["delayed"], lane["dead"]) == (1, 0)
    assert "word" not in json.dumps([line, lane])


async def test_a_404_during_a_deploy_costs_nothing(site: Site) -> None:
    site.receiver.answers.append(REFUSALS["/ingress"])
    site.configure({"hook": fixed("webhook", f"{site.receiver.url}/hook")})
    for number in range(10):
        element = {"id": f"m{number}", "reply_to": "receipts:1", "payload": {"n": number}}
        await site.push(element)
    await site.drain()
    receipts = await site.receipts()
    assert len(receipts) == 10
    assert {(receipt["outcome"], receipt["attempts"]) for receipt in receipts} == {("delivered", 1)}


STALE = {
    "403": Answer(403, b'{"reason":"VapidPkHashMismatch"}'),
    "401": Answer(
        401, b'{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch"}'
    ),
    "400": Answer(400, b'{"reason":"VapidPkHashMismatch"}'),
    "jwt": Answer(403, b'{"reason":"BadJwtToken"}'),
}
"""Answers for subscriptions by the last part of their endpoints."""


async def test_stale_subscriptions_end_and_the_others_get_their_pushes(site: Site) -> None:
    site.receiver.answer = lambda request: STALE.get(request.path.rpartition("/")[2], Answer(201))
    webpush = {
        "type": "webpush",
        "private_key": VAPID_KEY,
        "subject": "mailto:ops@example.com",
        "allow_private": True,
        "breaker": COOLDOWN,
    }
    site.configure({"push": webpush})
    names = [*(str(number) for number in range(20)), *STALE, *(str(number) for number in range(20, 40))]
    for name in names:
        subscription = {"endpoint": f"{site.receiver.url}/{name}", "keys": BROWSER}
        element = {"id": name, "reply_to": "receipts:1", "payload": {"subscription": subscription, "data": 1}}
        await site.push(element)
    await site.drain()
    receipts = await site.receipts()
    outcomes = {receipt["id"]: receipt["outcome"] for receipt in receipts}
    assert outcomes == dict.fromkeys(names, "delivered") | dict.fromkeys(STALE, "unregistered") | {
        "jwt": "rejected"
    }
    feedback = [entry[b"target"].decode() for entry in await site.feedback()]
    assert sorted(feedback) == sorted(f"{site.receiver.url}/{name}" for name in ("400", "401", "403"))
