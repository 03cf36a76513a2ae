"""taskiq's worker: `taskiq worker worker:broker`."""

from __future__ import annotations

import json
import os
from typing import Any

import aiohttp
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker

CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
URL = os.environ["BENCH_URL"]

broker = ListQueueBroker(url=os.environ["BENCH_REDIS"])
sessions: list[aiohttp.ClientSession] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def startup(_: TaskiqState) -> None:
    sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def shutdown(_: TaskiqState) -> None:
    await sessions.pop().close()


@broker.task(task_name="push")
async def push(message: dict[str, Any]) -> None:
    name, body = ("hook", message) if "payload" not in message else (message["provider"], message["payload"])
    headers = {"content-type": "application/json"}
    async with sessions[0].post(f"{URL}/{name}", data=json.dumps(body), headers=headers) as response:
        await response.read()
        response.raise_for_status()
