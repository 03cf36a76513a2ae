"""Pauses by an operator: they show user, time and reason, and can end on their own."""

from __future__ import annotations

import asyncio
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
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from testing.site import webhook


@pytest.fixture
def config(tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver) -> str:
    return str(
        write_config(tmp_path, redis_server.url, {"hook": webhook(receiver, groups={"by": "message"})})
    )


async def lane(config: str) -> dict[str, Any]:
    document = json.loads(await output("status", "--json", "-c", config))
    found: dict[str, Any] = document["lanes"][0]
    return found


async def test_status_shows_who_paused_a_lane_and_why_and_until_when(config: str) -> None:
    before = time.time()
    await output("pause", "hook", "--for", "2h", "--because", "new\x1b[1m certificate", "-c", config)
    found = await lane(config)
    assert found["state"] == "paused"
    assert 6000 < found["hold_seconds"] <= 7200
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    assert found["why"].startswith(f"new\\x1b[1m certificate ({who}, since 20")
    pause = found["pause"]
    assert (pause["by"], pause["reason"]) == (who, "new\\x1b[1m certificate")
    assert before - 60 < pause["at"] < pause["until"] - 7199
    table = await output("status", "-c", config)
    assert re.search(r"paused [12]h", table)
    assert "certificate" in table
    assert "\x1b" not in table

    await output("pause", "hook", "-c", config)
    found = await lane(config)
    assert (found["state"], found["hold_seconds"]) == ("paused", 0)
    assert found["why"].startswith(f"by {who}, since 20")
    assert (found["pause"]["until"], found["pause"]["reason"]) == (None, "")

    await output("resume", "hook", "-c", config)
    found = await lane(config)
    assert (found["state"], found["why"], found["pause"]) == ("running", "", None)


async def test_a_worker_goes_on_when_a_pause_ends_on_its_own(config: str, receiver: Receiver) -> None:
    """Each second pause ends earlier than the first, so the worker must be notified of it."""

    async def push(group: str) -> None:
        message = json.dumps({"group": group, "payload": {"body": group}})
        await output("push", "notifications", message, "-c", config)

    async def until_waiting(messages: int) -> None:
        async with asyncio.timeout(120):
            while (await lane(config))["waiting"] != messages:
                pass

    await output("pause", "hook", "--for", "2h", "-c", config)
    async with worker(Path(config)):
        await push("a")
        await until_waiting(1)
        assert receiver.requests == []
        await output("pause", "hook", "--for", "100ms", "-c", config)
        await receiver.until(1)
        assert (await lane(config))["state"] == "running"

        await output("pause", "hook", "--group", "b", "--for", "2h", "-c", config)
        await push("b")
        await until_waiting(1)
        await push("a")
        await receiver.until(2)
        await output("pause", "hook", "--group", "b", "--for", "100ms", "-c", config)
        await receiver.until(3)
    assert [request.body for request in receiver.requests] == [b"a", b"a", b"b"]


@pytest.mark.parametrize("text", ["soon", "0s", "-1s", "4000d"])
async def test_a_pause_of_no_sensible_length_is_refused(config: str, text: str) -> None:
    assert "--for: " in await failure("pause", "hook", "--for", text, "-c", config)
    assert (await lane(config))["state"] == "running"


async def test_a_lane_that_another_program_has_paused_shows_it(config: str, redis: Redis) -> None:
    await redis.hset("relay:{hook}:control", "paused", "1")
    found = await lane(config)
    assert (found["state"], found["why"], found["hold_seconds"]) == ("paused", "by an operator", 0)
    assert (await run_command("resume", "hook", "-c", config)).exit_code == 0
    assert (await lane(config))["state"] == "running"


async def test_a_probe_is_for_a_lane_that_holds_on_its_own(config: str, redis: Redis) -> None:
    assert "hook does not hold" in await failure("probe", "hook", "-c", config)
    await output("pause", "hook", "-c", config)
    assert "`relay resume hook`" in await failure("probe", "hook", "-c", config)
    await output("resume", "hook", "-c", config)
    until = round((float((await redis.time())[0]) + 3600) * 1000)
    await redis.hset("relay:{hook}:control", mapping={"state": "open", "hold": until, "since": until})
    result = await run_command("probe", "hook", "--because", "it is up", "-c", config)
    assert "hook is open; one message goes now" in result.stderr
    assert (await lane(config))["hold_seconds"] == 0
    entry = json.loads(await output("audit", "--json", "-c", config))[0]
    assert (entry["action"], entry["provider"], entry["why"]) == ("probe", "hook", "it is up")
