"""`relay reload` reaches every process of the fleet, and each reports."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.store.fleet import Fleet, WorkerInfo
from testing.commands import failure, output, run_command
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config
from testing.site import webhook


@pytest.fixture(scope="session")
def redis_server(newest_redis_server: RedisServer) -> RedisServer:
    return newest_redis_server


async def test_a_reload_reaches_supervisors_and_lone_workers_and_each_reports(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    def write(name: str, rate: str, processes: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        hook = webhook(receiver, rate=rate)
        return write_config(folder, redis_server.url, {"hook": hook}, processes=processes)

    first, second = write("first", "10/s", 2), write("second", "10/s", 1)
    async with worker(first, ready="supervising"), worker(second):
        # The supervisor is ready before its workers are.
        async with asyncio.timeout(120):
            while len(await Fleet(redis, "relay").members()) < 3:
                await asyncio.sleep(0.05)
        write("first", "20/s", 2)
        write("second", "20/s", 1)
        document = await output("reload", "--because", "faster", "--wait", "60s", "--json", "-c", str(first))
        reports: list[dict[str, Any]] = json.loads(document)
        assert [(report["ok"], report["error"]) for report in reports] == [(True, "")] * 2
        assert len({report["settings"] for report in reports}) == 1
        lanes = json.loads(await output("status", "--json", "-c", str(first)))["lanes"]
        assert lanes[0]["rate"] == "20/s"

        second.write_text(second.read_text().replace("rate: 20/s", "rate: fast"))
        result = await run_command("reload", "--wait", "60s", "-c", str(first))
    assert result.exit_code == 1
    refused, accepted = sorted(result.stderr.splitlines(), key=lambda line: line.endswith("reloaded"))
    assert "not reloaded: " in refused
    assert f"{second}:" in refused
    assert "providers.hook.rate: " in refused
    assert accepted.endswith(": reloaded")
    entry = json.loads(await output("audit", "--json", "-c", str(first)))[-1]
    assert (entry["action"], entry["count"], entry["why"]) == ("reload", 2, "faster")


async def test_a_process_that_does_not_answer_is_reported_as_silent(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    config = str(write_config(tmp_path, redis_server.url, {"hook": webhook(receiver)}))
    assert "no worker is running" in await failure("reload", "-c", config)
    await Fleet(redis, "relay").heartbeat(WorkerInfo("ops1-81-a", "ops1", "", 81, "1.0", 0.0))
    result = await run_command("reload", "--wait", "300ms", "-c", config)
    assert result.exit_code == 1
    assert result.stderr == "ops1 (ops1-81): not reloaded: no report within 0.3 s\n"


@pytest.mark.parametrize("value", [b"\xff" * 10, b"x" * 100_000, b""])
async def test_a_foreign_request_disturbs_no_heartbeat(redis: Redis, value: bytes) -> None:
    fleet, info = Fleet(redis, "relay"), WorkerInfo("w", "h", "", 1, "1", 0.0)
    await redis.set("relay:{fleet}:reload", value)
    assert not await fleet.heartbeat(info)
    assert fleet.reload_request == ""
    await redis.delete("relay:{fleet}:reload")
    await redis.rpush("relay:{fleet}:reload", "a list")
    assert await fleet.heartbeat(info)
    assert fleet.reload_request == ""


async def test_a_file_can_be_compared_with_the_running_fleet(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    hook = webhook(receiver, rate="10/s")
    (tmp_path / "old").mkdir()
    old = write_config(tmp_path / "old", redis_server.url, {"hook": hook, "gone": webhook(receiver)})
    await redis.xadd("relay:{gone}:dead", {"reason": "400"})
    async with worker(old):
        new = write_config(tmp_path, redis_server.url, {"hook": {**hook, "rate": "20/s"}})
        same = await output("check", "--against-live", "-c", str(old))
        shown = await output("check", "--against-live", "-c", str(new))
    assert "a reload changes no queue and no provider" in same
    assert "warning gone: the lane leaves the fleet with messages in it" in shown
    assert "ok hook: rate: 10/s → 20/s; its token bucket starts again" in shown
