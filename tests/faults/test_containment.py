"""A bug in one part of a worker: that part starts again, and everything else continues."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from testing import adapter
from testing.ports import free_port
from testing.relay_process import Worker, environment, write_config
from testing.site import Site

QUEUES = [
    {"name": "notifications", "provider": "hook"},
    {"name": "bad", "provider": "bad"},
    {"name": "poison", "provider": "hook"},
]

PARTS = {"lane bad", "lane unready", "outbox bad", "queue poison", "recovery", "wake-up listener", "watchdog"}


def element(number: int) -> str:
    return json.dumps({"payload": {"body": {"n": number}}})


async def until(condition: Callable[[], Any]) -> None:
    """Return when an awaitable condition holds."""
    async with asyncio.timeout(90):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_a_part_that_fails_stops_nothing_else_and_starts_again(site: Site) -> None:
    installed = adapter.install(site.folder, adapter.SABOTAGE)
    url = f"http://127.0.0.1:{free_port()}"
    providers = {
        "hook": {"type": "webhook", "url": f"{site.receiver.url}/hook"},
        "bad": {"type": "trouble"},
        "unready": {"type": "trouble", "start": "fails"},
    }
    site.configure(providers, QUEUES, admin={"listen": url.removeprefix("http://")})

    async def health() -> tuple[int, dict[str, Any]]:
        async with ClientSession() as session, session.get(f"{url}/healthz") as answer:
            return answer.status, await answer.json()

    async def all_have_failed() -> bool:
        return set((await health())[1]["failures"]) >= PARTS

    async def all_are_well() -> bool:
        return (await health())[0] == 200

    await site.redis.rpush("bad", '{"payload": {}, "reply_to": "receipts:bad"}')
    await site.redis.rpush("poison", element(99))
    async with site.worker(**installed) as running:
        await site.push(*map(element, range(20)))
        await site.receiver.until(20)
        await until(all_have_failed)
        status, document = await health()
        assert status == 503
        assert any(re.match("lane unready: KeyError", trouble) for trouble in document["troubles"])
        async with ClientSession() as session, session.get(f"{url}/metrics") as answer:
            metrics = await answer.text()
        assert 'relay_part_failures_total{part="queue poison"}' in metrics
        assert "relay_log_lines_dropped_total 0.0" in metrics
        failed = await running.says("a part of this worker failed")
        assert "ZeroDivisionError" in failed["exception"] or "KeyError" in failed["exception"]

        adapter.broken(site.folder).unlink()
        await site.receiver.until(21)
        await site.redis.blpop(["receipts:bad"], 60)
        await until(all_are_well)
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0
    status = await site.json("status", **installed)
    assert [lane["waiting"] + lane["in_flight"] for lane in status["lanes"]] == [0, 0, 0]


@pytest.mark.parametrize(
    ("start", "code", "words"),
    [
        ("is wrong", 2, "write another option"),
        ("refuses its options", 2, "ZeroDivisionError('these options')"),
    ],
)
async def test_a_start_that_fails_for_good_ends_the_process(
    site: Site, start: str, code: int, words: str
) -> None:
    installed = adapter.install(site.folder)
    site.configure({"bad": {"type": "trouble", "start": start}})
    ended = await site.relay("run", **installed)
    assert ended.code == code
    assert words in ended.err


async def test_an_adapter_that_hangs_at_its_start_holds_up_no_lane_and_no_stop(site: Site) -> None:
    """And does not even end when it is cancelled."""
    installed = adapter.install(site.folder)
    providers = {
        "hook": {"type": "webhook", "url": f"{site.receiver.url}/hook"},
        "bad": {"type": "trouble", "start": "hangs"},
    }
    config = site.configure(providers)
    await site.push(element(1))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "run", "-c", str(config)),
        stderr=asyncio.subprocess.PIPE,
        env=environment(**installed),
    )
    running = Worker(process)
    await site.receiver.until(1)
    running.signal(signal.SIGTERM)
    assert await running.ended() == 0
    assert "stopped" in [line["event"] for line in running.lines]


async def test_a_reload_that_an_adapter_refuses_keeps_the_old_configuration(site: Site) -> None:
    installed = adapter.install(site.folder)
    site.configure({"bad": {"type": "trouble"}})
    async with site.worker(**installed) as running:
        site.configure({"bad": {"type": "trouble", "start": "is wrong"}})
        running.signal(signal.SIGHUP)
        said = await running.says("the new configuration cannot be used")
        assert "write another option" in said["error"]
        await site.push('{"payload": {}, "reply_to": "receipts:a"}')
        assert await site.redis.blpop(["receipts:a"], 60)


async def test_a_stop_while_redis_does_not_answer_ends_the_process(tmp_path: Path) -> None:
    connected = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read(1 << 20)
        await asyncio.Event().wait()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = write_config(tmp_path, f"redis://127.0.0.1:{port}/0", {"hook": {"type": "webhook"}})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "run", "-c", str(config)), env=environment()
    )
    async with asyncio.timeout(60):
        await connected.wait()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    server.close()


SHORT = """
import sys
from relay.engine import stall
stall.TUNING = stall.Tuning(threshold=5.0, cpu={cpu}, tick=0.2, jump=2.0)
sys.argv = ["relay", "run", "-c", {config!r}]
from relay.__main__ import main
main()
"""
"""A worker that does not wait for half a minute."""


async def a_worker_with(config: Path, cpu: float, installed: dict[str, str]) -> Worker:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SHORT.format(config=str(config), cpu=cpu)),
        stderr=asyncio.subprocess.PIPE,
        env=environment(**installed),
        limit=1 << 20,
    )
    running = Worker(process)
    await running.says("ready")
    return running


async def test_a_process_whose_event_loop_is_blocked_ends_itself_and_a_frozen_one_does_not(
    site: Site,
) -> None:
    installed = adapter.install(site.folder)
    config = site.configure({"bad": {"type": "trouble"}})
    running = await a_worker_with(config, 600, installed)
    running.signal(signal.SIGSTOP)
    await asyncio.sleep(6)  # longer than a running process may make no progress
    running.signal(signal.SIGCONT)
    await site.push('{"payload": {}, "reply_to": "receipts:a"}')
    assert await site.redis.blpop(["receipts:a"], 120)
    await site.push('{"payload": {"do": "block"}}')
    assert await running.ended() == 70
    (said,) = [line for line in running.lines if "no progress" in str(line["event"])]
    assert any("relay_trouble.py" in place for place in said["stack"])


async def test_a_process_that_computes_forever_is_ended_by_the_kernel(site: Site) -> None:
    """No thread of its own runs meanwhile."""
    installed = adapter.install(site.folder)
    config = site.configure({"bad": {"type": "trouble"}})
    running = await a_worker_with(config, 3, installed)
    await site.push('{"payload": {"do": "compute"}}')
    assert await running.ended() == -signal.SIGPROF
    assert any("relay_trouble.py" in str(line["event"]) for line in running.lines)
