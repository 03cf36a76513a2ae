"""A third-party Pusher server accepts our requests and shows the events to its subscribers.

sockudo comes from its language's registry and takes minutes to build, so that the suite uses it where
it is there: on the PATH, or where $SOCKUDO says. `.ci/run` builds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse

from testing.ports import free_port
from testing.relay_process import relay, worker
from testing.site import Site

SOCKUDO = os.environ.get("SOCKUDO") or shutil.which("sockudo") or str(Path.home() / ".cargo/bin/sockudo")

pytestmark = pytest.mark.skipif(
    not Path(SOCKUDO).exists(), reason="sockudo is not installed (cargo install sockudo; .ci/run does it)"
)

KEY, SECRET = "demo-key", "demo-secret"


@asynccontextmanager
async def sockudo(folder: Path) -> AsyncIterator[str]:
    """A running server; its address."""
    port = free_port()
    environment = {
        **os.environ,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "METRICS_ENABLED": "false",
        "QUEUE_DRIVER": "memory",
        "RATE_LIMITER_ENABLED": "false",
        "SHUTDOWN_GRACE_PERIOD": "1",
        "SOCKUDO_DEFAULT_APP_ID": "1001",
        "SOCKUDO_DEFAULT_APP_KEY": KEY,
        "SOCKUDO_DEFAULT_APP_SECRET": SECRET,
        "SOCKUDO_DEFAULT_APP_MAX_EVENT_BATCH_SIZE": "10",
    }
    process = await asyncio.create_subprocess_exec(
        SOCKUDO,
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(120), ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/up") as answer:
                        if answer.status == 200:
                            break
                except ClientError:
                    await asyncio.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def next_event(socket: ClientWebSocketResponse, name: str) -> dict[str, str]:
    async with asyncio.timeout(120):
        while True:
            event: dict[str, str] = await socket.receive_json()
            if event["event"] == name:
                return event


async def test_events_reach_a_subscriber_of_a_foreign_server(site: Site) -> None:
    (site.folder / "sockudo").mkdir()
    async with sockudo(site.folder / "sockudo") as address, ClientSession() as session:
        provider = {
            "type": "pusher",
            "app_id": "1001",
            "key": KEY,
            "secret": SECRET,
            "url": f"http://{address}",
            "event": "hit",
        }
        queues = [{"name": "hits", "provider": "pusher", "format": "bare"}]
        site.configure({"pusher": provider}, queues)
        async with session.ws_connect(f"ws://{address}/app/{KEY}?protocol=7&client=t&version=1") as socket:
            await next_event(socket, "pusher:connection_established")
            await socket.send_json({"event": "pusher:subscribe", "data": {"channel": "site-1"}})
            await next_event(socket, "pusher_internal:subscription_succeeded")
            async with site.worker():
                await site.redis.rpush("hits", '{"channel": "site-1", "hits": 3, "path": "/"}')
                event = await next_event(socket, "hit")
                assert event["channel"] == "site-1"
                assert json.loads(event["data"]) == {"hits": 3, "path": "/"}
                batch = [json.dumps({"channel": "site-1", "data": {"n": number}}) for number in range(25)]
                await site.redis.rpush("hits", *batch)
                numbers = [json.loads((await next_event(socket, "hit"))["data"])["n"] for _ in batch]
        assert sorted(numbers) == list(range(25))
        wrong = site.configure({"pusher": {**provider, "secret": "wrong"}}, queues)
        await site.redis.rpush("hits", '{"channel": "site-1"}')
        async with worker(wrong) as running:
            await running.says("REFUSES OUR CREDENTIALS")
        (lane,) = (await relay("status", "--json", "-c", str(wrong))).json["lanes"]
        assert (lane["state"], lane["waiting"], lane["dead"]) == ("unauthorised", 1, 0)
