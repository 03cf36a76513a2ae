"""arq's worker: `arq worker.Settings`."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import aiohttp
from arq.connections import RedisSettings

CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
URL = os.environ["BENCH_URL"]


async def push(context: dict[str, Any], message: dict[str, Any]) -> None:
    name, body = ("hook", message) if "payload" not in message else (message["provider"], message["payload"])
    headers = {"content-type": "application/json"}
    async with context["session"].post(f"{URL}/{name}", data=json.dumps(body), headers=headers) as response:
        await response.read()
        response.raise_for_status()


async def startup(context: dict[str, Any]) -> None:
    # By default it logs two lines per job; the other systems log none.
    logging.getLogger("arq").setLevel(logging.WARNING)
    context["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY))


async def shutdown(context: dict[str, Any]) -> None:
    await context["session"].close()


class Settings:
    functions = [push]
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])
    max_jobs = CONCURRENCY
    keep_result = 0
    # The default of 0.5 s would be the minimum of its latency, and would limit its rate.
    poll_delay = 0.01
