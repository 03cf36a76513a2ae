"""Refusals: credentials that are wrong hold the lane and cost nothing; messages that are wrong end alone."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from testing.adapter import install
from testing.receiver import Answer, Received, Receiver
from testing.relay_process import relay
from testing.site import Site

BACKLOG = 200
COOLDOWN = {"cooldown": "300ms"}
FAULTY = """

async def deliver(self, batch):
    if BROKEN.exists() or batch[0].payload.get("raise"):
        raise KeyError("a bug")
    return [Delivered()]


Trouble.deliver = deliver
"""
"""Raises for every message while the file `BROKEN` exists, and always for messages that order it."""


async def push(redis: Redis, provider: str, payloads: list[Any]) -> None:
    elements = [
        {
            "id": f"{provider}-{n}",
            "provider": provider,
            "reply_to": f"receipts:{provider}",
            "payload": payload,
        }
        for n, payload in enumerate(payloads)
    ]
    await redis.rpush("notifications", *map(json.dumps, elements))


async def outcomes(redis: Redis, provider: str, number: int) -> dict[str, str]:
    """Wait for this number of receipts, and return the outcome of each message."""
    async with asyncio.timeout(120):
        while await redis.llen(f"receipts:{provider}") < number:
            await asyncio.sleep(0.05)
    receipts = [json.loads(text) for text in await redis.lrange(f"receipts:{provider}", 0, -1)]
    assert len(receipts) == number, "a message ended twice"
    return {receipt["id"].removeprefix(f"{provider}-"): receipt["outcome"] for receipt in receipts}


async def lane(config: Path, provider: str, **env: Any) -> dict[str, Any]:
    lanes = (await relay("status", "--json", "-c", str(config), **env)).json["lanes"]
    (found,) = (each for each in lanes if each["provider"] == provider)
    return dict(found)


def bearer(receiver: Receiver, path: str, token: str) -> dict[str, Any]:
    return {
        "type": "http",
        "url": f"{receiver.url}/{path}",
        "headers": {"authorization": f"Bearer {token}"},
        "concurrency": 64,
        "breaker": COOLDOWN,
    }


async def test_a_wrong_key_and_a_revoked_one_spend_no_message_and_few_requests(site: Site) -> None:
    accepted = {"/wrong": 0, "/revoked": 0}

    def answer(request: Received) -> Answer:
        valid = request.headers["authorization"] == "Bearer new-secret-token"
        if valid or (request.path == "/revoked" and accepted["/revoked"] < BACKLOG // 2):
            accepted[request.path] += 1
            return Answer()
        return Answer(401, b'{"error":"invalid_token"}')

    site.receiver.answer = answer
    names = ("wrong", "revoked")

    def configure(token: str) -> Path:
        providers = {name: bearer(site.receiver, name, token) for name in names}
        return site.configure(providers, [{"name": "notifications"}])

    config = configure("old-secret-token")
    for name in names:
        await push(site.redis, name, [{"n": n} for n in range(BACKLOG)])
    async with site.worker() as running:
        for name in names:
            await running.says("REFUSES OUR CREDENTIALS", provider=name)
        requests = sum(request.path == "/wrong" for request in site.receiver.requests)
        assert requests <= 64 + 10
        held = {name: await lane(config, name) for name in names}
        configure("new-secret-token")
        running.signal(signal.SIGHUP)
        for name in names:
            ended = await outcomes(site.redis, name, BACKLOG)
            assert set(ended.values()) == {"delivered"}
    assert {row["state"] for row in held.values()} == {"unauthorised"}
    assert all(row["suspects"] > 0 and row["dead"] == 0 for row in held.values())
    assert accepted == dict.fromkeys(accepted, BACKLOG)
    for name in names:
        assert await site.redis.xlen(f"relay:{{{name}}}:dead") == 0
    assert await site.redis.xlen("relay:feedback") == 0


GONE = 30


async def test_mass_death_holds_the_lane_and_a_resume_tries_each_target_once_more(site: Site) -> None:
    asked: dict[str, int] = {}
    fixed: set[str] = set()

    def answer(request: Received) -> Answer:
        name = request.path.split("/")[1]
        asked[request.path] = asked.get(request.path, 0) + 1
        return Answer() if name in fixed else Answer(404, b'{"reason":"DeviceTokenNotForTopic"}')

    site.receiver.answer = answer
    names = ("gone", "living")
    providers = {
        name: {
            "type": "http",
            "url": f"{site.receiver.url}/{name}/${{payload.token}}",
            "target_field": "token",
            "statuses": {"unregistered": [404]},
            "breaker": {"cooldown": "1h"},
        }
        for name in names
    }
    config = site.configure(providers, [{"name": "notifications"}])
    for name in names:
        await push(site.redis, name, [{"token": f"t{n}"} for n in range(GONE)])
    async with site.worker() as running:
        for name in names:
            await running.says("TOO MANY TARGETS ARE UNREGISTERED", provider=name)
            row = await lane(config, name)
            assert (row["state"], row["dead"], row["unregistered"]) == ("unregistered", 0, 0)
            assert "targets are unregistered" in row["why"]
            assert row["suspects"] >= 20
        assert await site.redis.xlen("relay:feedback") == 0
        fixed.add("living")
        for name in names:
            assert (await site.relay("resume", name)).code == 0
            expected = "delivered" if name in fixed else "unregistered"
            assert set((await outcomes(site.redis, name, GONE)).values()) == {expected}
        async with asyncio.timeout(120):
            while await site.redis.xlen("relay:feedback") < GONE:
                await asyncio.sleep(0.05)
    feedback = await site.feedback()
    assert {entry[b"provider"] for entry in feedback} == {b"gone"}
    assert sorted(entry[b"target"].decode() for entry in feedback) == sorted(f"t{n}" for n in range(GONE))
    assert max(asked.values()) <= 2


async def test_a_bug_of_an_adapter_holds_the_lane_and_ends_only_the_message_that_it_is_about(
    site: Site,
) -> None:
    env = install(site.folder, FAULTY)
    trouble = {"type": "trouble", "breaker": COOLDOWN, "concurrency": 4}
    config = site.configure({"bad": trouble}, [{"name": "notifications"}])
    await push(site.redis, "bad", [{"n": n, "raise": n == 12} for n in range(30)])
    async with site.worker(**env) as running:
        await running.says("THE ADAPTER FAILS")
        row = await lane(config, "bad", **env)
        assert (row["state"], row["dead"], row["delivered"]) == ("faulty", 0, 0)
        traces = [line for line in running.lines if "KeyError" in str(line.get("exception"))]
        assert len(traces) == 1
        Path(env["BROKEN"]).unlink()
        await site.push({"id": "bad-last", "provider": "bad", "reply_to": "receipts:bad", "payload": {}})
        ended = await outcomes(site.redis, "bad", 31)
    wrong = {name: outcome for name, outcome in ended.items() if outcome != "delivered"}
    assert wrong == {"12": "rejected"}
    receipts = [json.loads(text) for text in await site.redis.lrange("receipts:bad", 0, -1)]
    assert {receipt["attempts"] for receipt in receipts} == {1}


async def test_a_suspect_that_is_cancelled_or_expires_is_never_sent_again(site: Site) -> None:
    site.receiver.answer = lambda request: Answer(401)
    providers = {name: bearer(site.receiver, name, "a-secret-token") for name in ("cancels", "expires")}
    config = site.configure(providers, [{"name": "notifications"}])
    await push(site.redis, "cancels", [{"n": 1}])
    element = {"id": "e", "provider": "expires", "reply_to": "receipts:expires", "ttl": "1s", "payload": {}}
    await site.push(element)
    async with site.worker() as running:
        for name in providers:
            await running.says("REFUSES OUR CREDENTIALS", provider=name)
        assert await outcomes(site.redis, "expires", 1) == {"e": "expired"}
        async with asyncio.timeout(120):
            while (await site.relay("cancel", "cancels", "cancels-0")).code != 0:
                pass
        assert await outcomes(site.redis, "cancels", 1) == {"0": "cancelled"}
    rows = [await lane(config, name) for name in providers]
    assert [row["waiting"] + row["in_flight"] + row["suspects"] + row["dead"] for row in rows] == [0, 0]
