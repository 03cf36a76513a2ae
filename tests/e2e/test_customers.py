"""Webhooks of a platform with many customers, as docs/how-to/deliver-for-many-customers.md describes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from redis.asyncio import Redis
from standardwebhooks import Webhook as Verifier

from testing.receiver import Answer, Receiver
from testing.redis_server import RedisServer
from testing.relay_process import relay, worker, write_config
from testing.streams import entries_of


async def test_a_disabled_customer_is_reported_once_and_gets_everything_after_it_is_enabled(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    receiver.answer = lambda request: Answer(500)
    hook = {
        "type": "webhook",
        "allow_private": True,
        "retry": {"attempts": 1000, "base": "100ms", "max": "200ms"},
        "groups": {"by": "message", "disable_after": "1s", "breaker": {"failures": 5, "cooldown": "300ms"}},
    }
    config = str(write_config(tmp_path, redis_server.url, {"customers": hook}))
    secret = "whsec_" + "YWJj" * 8
    payload = {"url": f"{receiver.url}/hook", "body": 1, "secrets": [secret]}
    for number in range(3):
        message = {"id": f"m{number}", "group": "customer-17", "payload": payload}
        await redis.rpush("notifications", json.dumps(message))
    async with worker(Path(config)) as running:
        async with asyncio.timeout(120):
            while await redis.xlen("relay:{customers}:dead") < 3 or not await redis.xlen("relay:feedback"):
                await asyncio.sleep(0.02)
        ((_, entry),) = await entries_of(redis, "relay:feedback")
        assert (entry[b"group"], entry[b"reason"]) == (b"customer-17", b"group disabled")
        listed = await relay("dead", "list", "customers", "--json", "-c", config)
        assert {letter["reason"] for letter in listed.json} == {"group disabled"}
        assert [letter["payload"]["secrets"] for letter in listed.json] == [["[redacted]"]] * 3
        receiver.answer, tried = (lambda request: Answer(200)), len(receiver.requests)
        assert (await relay("resume", "customers", "--group", "customer-17", "-c", config)).code == 0
        retried = await relay(
            "dead", "retry", "customers", "--reason", "group disabled", "--yes", "-c", config
        )
        assert retried.code == 0, retried.err
        requests = (await receiver.until(tried + 3))[tried:]
    assert not [line for line in running.lines if "YWJjYWJj" in json.dumps(line)]
    for request in requests:
        assert Verifier(secret).verify(request.body, request.headers) == 1, "a retry signs again"
