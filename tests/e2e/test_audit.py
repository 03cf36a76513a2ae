"""`relay audit`: the actions of operators, with their user, time and reason."""

from __future__ import annotations

import getpass
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from testing.commands import failure, output, run_command
from testing.redis_server import RedisServer
from testing.relay_process import write_config

WHO = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture
def config(tmp_path: Path, redis: Redis, redis_server: RedisServer) -> str:
    out = {"type": "redis", "url": redis_server.url, "groups": {"by": "message"}}
    return str(write_config(tmp_path, redis_server.url, {"out": out, "other": {**out}}))


async def recorded(config: str, *words: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(await output("audit", "--json", "-c", config, *words))
    return entries


async def test_pauses_resumes_and_cancellations_are_recorded(config: str, redis: Redis) -> None:
    await redis.rpush(
        "notifications", '{"id": "order-17", "delay": "1h", "payload": {"channel": "a", "data": 1}}'
    )
    await output("pause", "out", "--for", "2h", "--because", "new\x1b[1m key", "-c", config)
    await output("pause", "out", "--group", "acme", "-c", config)
    await output("resume", "out", "--group", "acme", "--because", "they paid", "-c", config)
    await output("resume", "out", "--because", "key is in", "-c", config)
    entries = await recorded(config)
    assert [(e["action"], e["provider"], e["group"], e["why"]) for e in entries] == [
        ("resume", "out", "", "key is in"),
        ("resume", "out", "acme", "they paid"),
        ("pause", "out", "acme", ""),
        ("pause", "out", "", "new\\x1b[1m key"),
    ]
    assert {(e["who"], e["count"]) for e in entries} == {(WHO, 1)}
    assert all(abs(e["at"] - time.time()) < 3600 for e in entries)


async def test_an_action_that_failed_is_not_recorded(config: str) -> None:
    assert (await run_command("cancel", "out", "unknown", "-c", config)).exit_code == 1
    assert "has no messages" in await failure("resume", "out", "--group", "unknown", "-c", config)
    assert await recorded(config) == []
    assert "no action is recorded" in (await run_command("audit", "-c", config)).stderr


async def test_the_table_has_one_line_for_an_action_and_one_for_its_reason(config: str) -> None:
    await output("pause", "out", "--because", "certificate", "-c", config)
    await output("pause", "other", "-c", config)
    lines = (await output("audit", "-c", config)).splitlines()
    time_of = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"{time_of}  pause other  {re.escape(WHO)}", lines[0])
    assert re.fullmatch(rf"{time_of}  pause out  {re.escape(WHO)}", lines[1])
    assert lines[2:] == ["    certificate"]


async def test_actions_can_be_selected(config: str) -> None:
    for provider in ("out", "other", "out"):
        await output("pause", provider, "-c", config)
    assert len(await recorded(config, "--provider", "out")) == 2
    assert len(await recorded(config, "--limit", "1")) == 1
    assert len(await recorded(config, "--since", "1h")) == 3
    assert await recorded(config, "--since", str(time.time() + 86400)) == []
    assert '--since: "yesterday" is no time' in await failure("audit", "--since", "yesterday", "-c", config)
