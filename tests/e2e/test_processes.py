"""Workers that stop, die, come back and read their file again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from relay.redis_client.binaries import installed
from relay.store import audit
from testing.ports import free_port
from testing.receiver import Receiver
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, Worker, environment, relay, worker, write_config
from testing.site import Site, webhook
from tests.conftest import BINARIES


def hooks(numbers: range) -> list[str]:
    return [json.dumps({"payload": {"body": {"n": number}}}) for number in numbers]


def delivered(receiver: Receiver) -> list[int]:
    return [json.loads(request.body)["n"] for request in receiver.requests]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_finishes_messages_in_flight_and_releases_the_rest(
    site: Site, number: signal.Signals
) -> None:
    site.configure({"hook": site.webhook(concurrency=3)})
    site.receiver.gate.clear()
    await site.push(*hooks(range(20)))
    async with site.worker() as running:
        await site.receiver.until(3)
        running.signal(number)
        await running.says("stopping")
        site.receiver.gate.set()
        assert await running.ended() == 0
    assert len(delivered(site.receiver)) == 3
    status = await site.json("status")
    assert (status["lanes"][0]["waiting"] + status["queues"][0]["waiting"], status["workers"]) == (17, [])
    assert status["queues"][0]["taken"] == 0
    await site.drain()
    assert sorted(delivered(site.receiver)) == list(range(20))


async def test_a_message_without_an_answer_in_time_is_released(site: Site) -> None:
    site.configure({"hook": site.webhook()}, shutdown_timeout="200ms")
    site.receiver.gate.clear()
    await site.push(*hooks(range(2)))
    async with site.worker() as running:
        await site.receiver.until(2)
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0
    (lane,) = (await site.json("status"))["lanes"]
    assert (lane["waiting"], lane["in_flight"]) == (2, 0)


async def test_a_killed_worker_loses_nothing(site: Site) -> None:
    site.configure({"hook": site.webhook(concurrency=5)})
    site.receiver.gate.clear()
    await site.push(*hooks(range(400)))
    async with site.worker() as running:
        await site.receiver.until(5)
        running.process.kill()
        await running.ended()
    site.receiver.gate.set()
    site.receiver.requests.clear()
    await site.drain()
    assert sorted(delivered(site.receiver)) == list(range(400))
    assert await site.redis.keys("relay:*processing*") == []


async def test_a_second_signal_ends_it_at_once_and_loses_nothing(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    site.receiver.gate.clear()
    await site.push(*hooks(range(3)))
    async with site.worker() as running:
        await site.receiver.until(3)
        running.signal(signal.SIGINT)
        await running.says("stopping")
        running.signal(signal.SIGINT)
        assert await running.ended() == 128 + signal.SIGINT
    site.receiver.gate.set()
    site.receiver.requests.clear()
    await site.drain()
    assert sorted(delivered(site.receiver)) == [0, 1, 2]


async def test_a_supervisor_keeps_its_workers_alive(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    async with site.worker("--processes", "2") as running:
        await running.says("ready", times=2)
        members = (await site.json("status"))["workers"]
        assert len(members) == 2
        os.kill(members[0]["pid"], signal.SIGKILL)
        await running.says("a worker died")
        await running.says("ready", times=3)
        await site.push(*hooks(range(50)))
        await site.receiver.until(50)
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0
    assert sorted(delivered(site.receiver)) == list(range(50))


async def test_hangup_reads_the_file_again_and_a_bad_file_changes_nothing(site: Site) -> None:
    config = site.configure({"hook": site.webhook()})
    async with site.worker() as running:
        good = config.read_text()
        config.write_text(good.replace("type: webhook", "type: webhok"))
        running.signal(signal.SIGHUP)
        line = await running.says("the old configuration stays")
        assert "did you mean" in str(line)
        config.write_text(good.replace("/hook", "/other"))
        running.signal(signal.SIGHUP)
        await running.says("ready", times=2)
        # The bad file has stopped nothing.
        assert [line["event"] for line in running.lines].count("stopping") == 1
        await site.push(*hooks(range(1)))
        (request,) = await site.receiver.until(1)
    assert request.path == "/other"


async def write_once_asked(pipe: Path, text: str, then: Callable[[], None]) -> None:
    """Write into a named pipe when somebody has opened it to read; `then` happens just before."""
    descriptor = None
    async with asyncio.timeout(120):
        while descriptor is None:
            with suppress(OSError):  # ENXIO: nobody reads
                descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            await asyncio.sleep(0.01)  # nothing else shows that the reader is there
    then()
    os.write(descriptor, text.encode())
    os.close(descriptor)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_hangup_before_the_worker_is_there_waits_for_it(site: Site, processes: str) -> None:
    """The file is a pipe: the signal comes while the process waits for its text."""
    config = site.configure({"hook": site.webhook()})
    later = config.rename(site.folder / "later.yaml")
    os.mkfifo(config)
    process = await asyncio.create_subprocess_exec(
        *(RELAY, "run", "-c", str(config), "--processes", processes),
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    running = Worker(process)

    def hang_up() -> None:
        running.signal(signal.SIGHUP)
        # From now on the path is an ordinary file. The process that has opened the pipe keeps it.
        later.replace(config)

    await write_once_asked(config, later.read_text().replace("/hook", "/first"), hang_up)
    await running.says("ready", times=int(processes))
    if processes == "1":
        await running.says("the file was read again")
    await site.push(*hooks(range(1)))
    (request,) = await site.receiver.until(1)
    async with asyncio.timeout(120):
        while not (actions := await audit.read(site.redis, "relay")):
            await asyncio.sleep(0.01)
    running.signal(signal.SIGTERM)
    assert await running.ended() == 0
    assert request.path == "/hook"
    assert [(entry.action, entry.who, entry.why) for entry in actions] == [
        ("reload", f"SIGHUP@{socket.gethostname()}", "")
    ]
    assert not [line for line in running.lines if "died" in str(line["event"])]


WAITS = """
from pathlib import Path
Path(__file__).with_name("pipe").read_text()
"""
"""A library that never finishes loading."""


@pytest.mark.parametrize("moment", ["imports", "configuration"])
async def test_ctrl_c_while_it_starts_ends_it_without_a_traceback(tmp_path: Path, moment: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "typer.py").write_text(WAITS)
    process = await asyncio.create_subprocess_exec(
        *(RELAY, "run", "-c", str(tmp_path / "pipe")),
        stderr=asyncio.subprocess.PIPE,
        env=environment(**({"PYTHONPATH": str(tmp_path)} if moment == "imports" else {})),
    )
    await write_once_asked(tmp_path / "pipe", "", lambda: process.send_signal(signal.SIGINT))
    _, err = await process.communicate()
    assert (process.returncode, err) == (-signal.SIGINT, b"")


async def test_an_embedded_redis_keeps_its_messages_between_runs(tmp_path: Path, receiver: Receiver) -> None:
    port = free_port()
    url = f"embedded://{tmp_path}/data?port={port}"
    config = str(write_config(tmp_path, url, {"hook": webhook(receiver)}))
    newest = max(binary.version.number for binary in installed())
    checked = await relay("check", "-c", config)
    assert (checked.code, ".".join(map(str, newest)) in checked.out) == (0, True), checked
    for number in range(3):
        pushed = await relay("push", "notifications", hooks(range(number, number + 1))[0], "-c", config)
        assert pushed.code == 0, pushed
    assert (await relay("run", "-c", config, "--until-empty", "--processes", "2")).code == 0
    assert sorted(delivered(receiver)) == [0, 1, 2]
    async with worker(Path(config)) as running:
        # A second process talks to the first one's server, and a program in another language to its port.
        await relay("push", "notifications", hooks(range(3, 4))[0], "-c", config)
        await running.says("using an embedded Redis", url=f"redis://127.0.0.1:{port}/0")
        async with Redis(port=port) as client:
            await client.rpush("notifications", hooks(range(4, 5))[0])
        await receiver.until(5)
    assert not (tmp_path / "data" / "redis.sock").exists()


async def test_a_run_until_empty_waits_for_delayed_messages_too(site: Site) -> None:
    site.configure({"hook": site.webhook()})
    await site.push('{"delay": "700ms", "payload": {"body": {"n": 1}}}')
    await site.drain()
    assert delivered(site.receiver) == [1]


async def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_shell(
        f"{RELAY} schema config | head -1", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (out, err) == (b"{\n", b"")


@pytest.mark.parametrize("version", sorted(BINARIES))
async def test_a_redis_that_dies_and_comes_back_costs_no_message(
    tmp_path: Path, receiver: Receiver, version: str
) -> None:
    server = RedisServer(BINARIES[version], tmp_path / "redis", "--appendfsync", "always").start()
    config = write_config(tmp_path, server.url, {"hook": webhook(receiver)})
    try:
        async with worker(config) as running:
            async with Redis.from_url(server.url) as client:
                await client.rpush("notifications", *hooks(range(300)))
            await receiver.until(100)
            server.kill()
            await running.says("cannot fetch from the queue")
            server.start()
            async with Redis.from_url(server.url) as client:
                await client.rpush("notifications", *hooks(range(300, 400)))
            await receiver.until(400)
        assert sorted(delivered(receiver)) == list(range(400))
    finally:
        server.stop()
