"""A supervisor with real workers: its configuration, its admin port, its children."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout
from redis.asyncio import Redis

from relay.store import audit
from testing.ports import free_port
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, Worker, environment, relay, worker, write_config
from testing.site import webhook

LAUNCHER = """
import sys
from functools import partial
from relay.cli import app, run
from relay.engine.supervisor import Tuning
run.supervise = partial(run.supervise, tuning=Tuning(silence=6.0))
sys.argv[0] = "relay"
app.app()
"""
"""The relay command, with a supervisor that replaces silent workers sooner."""


async def health(port: int) -> tuple[int, dict[str, Any]]:
    """The answer of /healthz; on one connection for each question, as orchestrators do it."""
    url = f"http://127.0.0.1:{port}/healthz"
    async with ClientSession(timeout=ClientTimeout(20)) as session, session.get(url) as answer:
        return answer.status, await answer.json()


async def status(config: Path) -> dict[str, Any]:
    finished = await relay("status", "--json", "-c", str(config))
    assert finished.code == 0, finished
    document: dict[str, Any] = finished.json
    return document


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.05)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def message(number: int) -> str:
    return json.dumps({"payload": {"body": {"n": number}}})


async def test_a_broken_file_stops_no_worker_and_no_replacement(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    port = free_port()
    hook = webhook(receiver)
    (tmp_path / "secret").write_text(hook.pop("secret"))
    hook["secret_file"] = "secret"
    config = write_config(tmp_path, redis_server.url, {"hook": hook}, admin={"listen": f"127.0.0.1:{port}"})
    good = config.read_text()
    async with worker(config, "--processes", "2") as running:
        await running.says("ready", times=2)
        assert (await health(port))[0] == 200
        # The file is broken, and the secret file is gone.
        config.write_text(good + "\nproviders: [\n")
        (tmp_path / "secret").rename(tmp_path / "moved")
        running.signal(signal.SIGHUP)
        line = await running.says("the old configuration stays")
        assert f"{config}:" in line["problems"][0]
        code, document = await health(port)
        assert (code, document["healthy"]) == (200, True)
        assert str(config) in document["reload_failed"]["problem"]
        first = document["workers"][0]["pid"]
        os.kill(first, signal.SIGKILL)
        await running.says("a worker died")
        await running.says("ready", times=3)
        await redis.rpush("notifications", message(1))
        await receiver.until(1)
        config.write_text(good)
        (tmp_path / "moved").rename(tmp_path / "secret")
        async with asyncio.timeout(120):  # the next heartbeat of each
            while True:
                shown = await status(config)
                failed = [entry for entry in shown["workers"] if entry["alive"] and entry["reload_failed"]]
                if len(failed) == 2:
                    break
        assert any("reload failed" in finding for finding in shown["findings"])
        assert [entry["alive"] for entry in shown["workers"] if entry["pid"] == first] == [False]
        # Only the supervisor has read the bad file.
        events = [entry["event"] for entry in running.lines]
        assert events.count("the file is wrong: the old configuration stays") == 1
        assert "stopping" not in events
        config.write_text(good.replace("/hook", "/other"))
        running.signal(signal.SIGHUP)
        await running.says("ready", times=5)
        await redis.rpush("notifications", message(2))
        await receiver.until(2)
        assert receiver.requests[-1].path == "/other"
        assert (await health(port))[1]["reload_failed"] is None
        async with asyncio.timeout(120):
            while len(actions := await audit.read(redis, "relay")) < 2:
                await asyncio.sleep(0.01)
        assert [entry.why.partition(f": {config}:")[0] for entry in actions] == [
            "",
            "the old configuration stays",
        ]
        # A Redis that cannot be reached is a bad file, too.
        config.write_text(good.replace(redis_server.url, f"redis://127.0.0.1:{free_port()}/0"))
        running.signal(signal.SIGHUP)
        await running.says("the new Redis cannot be used")
        # Another Redis, or another prefix, needs new processes.
        config.write_text(good.replace("redis:", "redis:\n  prefix: other", 1))
        running.signal(signal.SIGHUP)
        await running.says("ready", times=7)
        shown = await status(config)
        assert (shown["findings"], [entry["alive"] for entry in shown["workers"]]) == ([], [True, True])
        # A supervisor that is killed takes its workers with it.
        pids = [entry["pid"] for entry in shown["workers"]]
        running.process.kill()
        assert await running.ended() == -signal.SIGKILL
        await until(lambda: not any(map(runs, pids)))


async def test_a_worker_that_hangs_costs_no_probe_an_answer_and_is_replaced(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    port = free_port()
    config = write_config(
        tmp_path, redis_server.url, {"hook": webhook(receiver)}, admin={"listen": f"127.0.0.1:{port}"}
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LAUNCHER, "run", "-c", str(config), "--processes", "2"),
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    running = Worker(process)
    try:
        await running.says("ready", times=2)
        async with asyncio.timeout(120):
            while not all(entry.get("worker") for entry in (await health(port))[1]["workers"]):
                await asyncio.sleep(0.05)
        hung = (await health(port))[1]["workers"][0]["pid"]
        os.kill(hung, signal.SIGSTOP)
        for _ in range(14):
            assert (await health(port))[1]["processes"] == 2
        line = await running.says("a worker is silent")
        assert line["pid"] == hung
        await running.says("ready", times=3)
        assert not runs(hung)
        async with asyncio.timeout(120):
            while (await health(port))[0] != 200:
                await asyncio.sleep(0.02)
        shown = await status(config)
        assert sorted(entry["alive"] for entry in shown["workers"]) == [False, True, True]
        await redis.rpush("notifications", message(1))
        await receiver.until(1)
    finally:
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0


async def test_workers_with_another_file_are_visible(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    one = write_config(first, redis_server.url, {"hook": webhook(receiver)})
    # Keys that may differ between hosts make no difference.
    same = write_config(second, redis_server.url, {"hook": webhook(receiver)}, shutdown_timeout="9s")
    async with worker(one) as running:
        async with worker(same) as neighbour:
            shown = await status(one)
            assert (len(shown["workers"]), shown["findings"]) == (2, [])
            other = write_config(second, redis_server.url, {"hook": webhook(receiver, concurrency=3)})
            neighbour.signal(signal.SIGHUP)
            line = await neighbour.says("use different settings")
            assert len(line["workers"]) == 1
            for config in (one, other):
                shown = await status(config)
                assert len({entry["settings"] for entry in shown["workers"]}) == 2
                other_file, differing = shown["findings"]
                assert "1 of the workers use other settings than this file" in other_file
                assert "workers use different settings for hook" in differing
            assert "other file" in (await relay("status", "-c", str(one))).out
        assert not [line for line in running.lines if "different settings" in line["event"]]
    shown = await status(one)
    assert (shown["workers"], shown["findings"]) == ([], [])


async def test_two_fleets_on_one_queue_are_visible(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    configs = []
    for prefix in ("one", "two"):
        folder = tmp_path / prefix
        folder.mkdir()
        configs.append(write_config(folder, redis_server.url, {"hook": webhook(receiver)}))
        text = configs[-1].read_text().replace("redis:", f"redis:\n  prefix: {prefix}", 1)
        configs[-1].write_text(text)
    async with worker(configs[0]) as first:
        async with asyncio.timeout(120):
            while not await redis.pubsub_channels("one:wake"):
                await asyncio.sleep(0.05)
        async with worker(configs[1]) as second:
            line = await second.says("another fleet reads the same queues")
            assert f"`redis.prefix: one` ({os.uname().nodename} pid {first.process.pid})" in line["fleet"]
            async with asyncio.timeout(120):
                while not (found := (await status(configs[0]))["findings"]):
                    pass
            assert "`redis.prefix: two`" in found[0]


async def test_silent_connections_to_the_admin_port_stop_no_delivery(
    tmp_path: Path, redis: Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    port = free_port()
    config = write_config(
        tmp_path, redis_server.url, {"hook": webhook(receiver)}, admin={"listen": f"127.0.0.1:{port}"}
    )
    process = await asyncio.create_subprocess_shell(
        f"ulimit -n 256; exec {RELAY} run -c {config}",
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    running = Worker(process)
    try:
        await running.says("ready")
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(253)]
        await redis.rpush("notifications", *(message(number) for number in range(100)))
        await receiver.until(100)
        assert (await health(port))[0] == 200
        for _, writer in silent:
            writer.close()
    finally:
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0
    assert not [line for line in running.lines if line.get("level") in ("warning", "error")]
