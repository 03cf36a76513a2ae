"""The log of a worker stays short, however often an event happens, and leaves nothing out."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from testing.receiver import Answer, Receiver
from testing.redis_server import RedisServer
from testing.relay_process import Worker, worker, write_config
from testing.site import webhook
from tests.conftest import BINARIES

TROUBLES = ("cannot fetch from the queue", "cannot claim", "no heartbeat", "cannot check for dead workers")


def said(running: Worker, event: str) -> list[dict[str, Any]]:
    return [line for line in running.lines if line["event"] == event]


async def test_repeated_lines_are_one_line_with_a_count_and_an_example(
    tmp_path: Path, receiver: Receiver
) -> None:
    server = RedisServer(BINARIES[max(BINARIES)], tmp_path / "redis", "--appendonly", "yes").start()
    config = write_config(tmp_path, server.url, {"hook": webhook(receiver)})
    malformed, rejected = 1000, 500
    started = time.monotonic()
    receiver.answer = lambda request: Answer(400, f"no {len(receiver.requests)}".encode())
    try:
        async with Redis.from_url(server.url) as client, worker(config) as running:
            await client.rpush("notifications", *(f'{{"a{"b" * 9}{n}"' for n in range(malformed)))
            elements = [json.dumps({"id": f"m{n}", "payload": {"body": n}}) for n in range(rejected)]
            await client.rpush("notifications", *elements)
            await receiver.until(rejected)
            async with asyncio.timeout(120):
                while await client.hlen("relay:{hook}:bodies"):
                    await asyncio.sleep(0.02)
            # Long enough for each loop to notice it several times.
            server.kill()
            await running.says("no heartbeat")
            await running.says("cannot check for dead workers")
            server.start()
            again = await running.says("Redis answers again")
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
    finally:
        server.stop()
    letters = said(running, "dead letter")
    assert sum(line["count"] for line in letters) == malformed + rejected
    # A line immediately, one for each 10 s that it took, and one at the end, for each of the two reasons.
    assert len(letters) <= 2 * (2 + (time.monotonic() - started) // 10)
    assert all(line["id"].startswith("m") for line in letters if line["reason"].startswith("400"))
    assert all(len(said(running, event)) <= 2 for event in TROUBLES)
    assert again["level"] == "info"
