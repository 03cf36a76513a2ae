"""Neighbours on the same Redis write garbage or take rights away: everything else continues."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from testing.redis_server import RedisServer
from testing.relay_process import relay, worker, write_config
from testing.site import Site

OPERATIONS = Path(__file__).parents[2] / "docs/how-to/prepare-redis.md"
ALLOWED, FORBIDDEN, TAKEN = "receipts:allowed", "receipts:forbidden", "receipts:taken"
GARBAGE = ({"x": "no letter"}, {"letter": b"\x97\xa7receipt"}, {"letter": b"\xff" * 5000})


async def a_confined_user(redis: Redis) -> None:
    """The user that the documentation describes, with the right to two lists for receipts alone."""
    rules = re.search(r"ACL SETUSER (relay(?:[^`]|\\\n)+?)\n```", OPERATIONS.read_text())
    assert rules is not None
    words = rules[1].replace("\\\n", " ").replace(">PASSWORD", ">s3cret").split()
    lists = [f"~{ALLOWED}", f"~{TAKEN}"]
    await redis.execute_command("ACL SETUSER", *(word for word in words if word != "~receipts:*"), *lists)


@pytest.fixture
async def confined_url(redis: Redis, redis_server: RedisServer) -> str:
    await a_confined_user(redis)
    return redis_server.url.replace("//", "//relay:s3cret@")


async def test_receipts_that_cannot_be_delivered_and_garbage_hold_up_nothing_else(
    site: Site, confined_url: str
) -> None:
    hook = {"type": "webhook", "url": site.receiver.url, "secret": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"}
    config = write_config(site.folder, confined_url, {"hook": hook})
    await site.redis.set(TAKEN, "another program's")
    fields: Any
    for fields in GARBAGE:
        await site.redis.xadd("relay:{hook}:outbox", fields)
    async with worker(config) as running:
        for data in (b"\xff\xfe", b"nobody", b"x" * 100_000, *[b"hook"] * 5000):
            await site.redis.publish("relay:wake", data)
        for number in range(30):
            reply_to = (ALLOWED, FORBIDDEN, TAKEN)[number % 3]
            message = {"id": f"m{number}", "payload": {"body": number}, "reply_to": reply_to}
            await site.push(message)
        async with asyncio.timeout(120):
            receipts = [await site.receipt(ALLOWED) for _ in range(10)]
        assert [receipt["id"] for receipt in receipts] == [f"m{number}" for number in range(0, 30, 3)]
        first = await running.says("receipts or feedback are lost", 3)
        assert first["provider"] == "hook"
        async with asyncio.timeout(120):
            while (lane := await a_lane(config))["outbox"]:
                pass
        assert lane["outbox_lost"] == 20 + len(GARBAGE)
        assert lane["delivered"] == 30
    assert await running.ended() == 0
    losses = [line for line in running.lines if "are lost" in line["event"]]
    assert {line.get("key") for line in losses} == {FORBIDDEN, TAKEN, None}
    assert len(losses) < 20, "one line stands for many"
    assert await site.redis.get(TAKEN) == b"another program's"
    assert await site.redis.xlen("relay:{hook}:outbox:unreadable") == len(GARBAGE)
    assert not [line for line in running.lines if "exception" in line]


async def a_lane(config: Path) -> dict[str, object]:
    (lane,) = (await relay("status", "--json", "-c", str(config))).json["lanes"]
    assert isinstance(lane, dict)
    return lane
