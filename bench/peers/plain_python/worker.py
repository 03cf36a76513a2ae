"""The plain loop: BLPOP, then POST, with a limited number in flight. Popped messages are lost with the
process."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aiohttp
import uvloop
from redis.asyncio import Redis

CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
URL = os.environ["BENCH_URL"]


async def push(session: aiohttp.ClientSession, element: bytes, free: asyncio.Semaphore) -> None:
    try:
        message = json.loads(element)
        name, body = (
            ("hook", message) if "payload" not in message else (message["provider"], message["payload"])
        )
        headers = {"content-type": "application/json"}
        async with session.post(f"{URL}/{name}", data=json.dumps(body), headers=headers) as response:
            await response.read()
            response.raise_for_status()
    finally:
        free.release()


async def main() -> None:
    redis = Redis.from_url(os.environ["BENCH_REDIS"])
    free = asyncio.Semaphore(CONCURRENCY)
    running: set[asyncio.Task[None]] = set()
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:
        while True:
            await free.acquire()
            popped: Any = await redis.blpop(["bench"], 0)
            _, element = popped
            task = asyncio.create_task(push(session, element, free))
            running.add(task)
            task.add_done_callback(running.discard)


uvloop.run(main())
