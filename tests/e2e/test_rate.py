"""`relay rate` changes the rate of a running fleet, and everybody sees it."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from testing.commands import failure, output
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from testing.site import webhook

WHO = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture(scope="session")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


@pytest.fixture
def config(tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver) -> str:
    hook = webhook(receiver, rate="1/h", burst=1)
    return str(write_config(tmp_path, redis_server.url, {"hook": hook}))


async def lane(config: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await output("status", "--json", "-c", config))["lanes"][0]
    return found


async def test_a_running_worker_follows_a_new_rate_at_once(config: str, receiver: Receiver) -> None:
    async with worker(Path(config)):
        for number in range(3):
            message = json.dumps({"id": f"m{number}", "payload": {"body": str(number)}})
            await output("push", "notifications", message, "-c", config)
        await receiver.until(1)
        while (await lane(config))["waiting"] != 2:
            await asyncio.sleep(0)
        await output("rate", "hook", "1/d", "--because", "they asked", "-c", config)
        (found,) = json.loads(await output("find", "m2", "--json", "-c", config))
        assert f"at the rate of an operator: 1/d, by {WHO}: they asked" in found["why_not_now"]
        await output("rate", "hook", "1000/s", "--for", "1h", "--because", "catch up", "-c", config)
        await receiver.until(3)
    found = await lane(config)
    assert found["rate"] == "1000/s"
    shown = found["override"]
    assert (shown["rate"], shown["by"], shown["why"]) == ("1000/s", WHO, "catch up")
    assert 3590 < shown["until"] - shown["at"] <= 3601


async def test_status_and_the_audit_log_show_an_override_until_it_is_reset(config: str) -> None:
    assert (await lane(config))["override"] is None
    await output("rate", "hook", "50/s,2000/m", "--because", "they\x1b[2J asked", "-c", config)
    shown = (await lane(config))["override"]
    assert (shown["rate"], shown["until"], shown["why"]) == ("50/s, 2000/m", None, "they\\x1b[2J asked")
    table = await output("status", "-c", config)
    assert "50/s, 2000/m" in table
    assert "an operator's rate is in force" in " ".join(table.split())
    await output("rate", "hook", "--reset", "--because", "all well", "-c", config)
    await output("rate", "hook", "--reset", "-c", config)
    found = await lane(config)
    assert (found["rate"], found["override"]) == ("1/h", None)
    actions = json.loads(await output("audit", "--json", "-c", config))
    assert [(entry["action"], entry["who"], entry["why"]) for entry in actions] == [
        ("rate-reset", WHO, "all well"),
        ("rate", WHO, "50/s, 2000/m: they\\x1b[2J asked"),
    ]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("fast",), "RATE: "),
        (("0/s",), "RATE: "),
        (("",), "RATE: "),
        (("50/s,",), "RATE: "),
        (("1e9/s",), "RATE: "),
        (("9999999999/s",), "RATE: .* out of range"),
        ((",".join(f"{number}/s" for number in range(1, 12)),), "RATE: at most 10"),
        ((), "write a rate such as 50/s, or --reset"),
        (("50/s", "--reset"), "--reset takes neither"),
        (("--reset", "--for", "1h"), "--reset takes neither"),
        (("50/s", "--for", "soon"), "--for: "),
        (("50/s", "--for", "0s"), "--for: "),
    ],
)
async def test_a_rate_that_makes_no_sense_is_refused(config: str, words: tuple[str, ...], error: str) -> None:
    assert re.search(error, await failure("rate", "hook", *words, "-c", config))
    assert (await lane(config))["override"] is None


async def test_the_rate_of_an_unknown_provider_is_refused(config: str) -> None:
    assert 'no provider "nobody"' in await failure("rate", "nobody", "1/s", "-c", config)
