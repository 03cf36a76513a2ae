"""`relay console`, and the console of the demo."""

from __future__ import annotations

import asyncio
import re
import signal

from aiohttp import ClientSession

from testing.ports import free_port
from testing.relay_process import RELAY, environment
from testing.site import Site


async def test_the_console_runs_without_a_worker_and_shows_that(site: Site) -> None:
    port = free_port()
    site.configure({"hook": site.webhook()}, admin={"listen": f"127.0.0.1:{port}"})
    process = await asyncio.create_subprocess_exec(
        RELAY, "console", "-c", str(site.config), stderr=asyncio.subprocess.PIPE, env=environment()
    )
    assert process.stderr is not None
    async with asyncio.timeout(120):
        assert f"console at http://127.0.0.1:{port}/" in (await process.stderr.readline()).decode()
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
        assert answer.status == 200
        assert "no worker is alive" in (await answer.text()).lower()
    taken = await site.relay("console")
    assert taken.code == 2
    assert "--listen takes another address" in taken.err
    open_to_all = await site.relay("console", "--listen", "0.0.0.0:0")
    assert (open_to_all.code, "admin.token" in open_to_all.err) == (2, True)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(120):
        assert await process.wait() == 0


async def test_the_demo_serves_its_console_with_live_traffic() -> None:
    process = await asyncio.create_subprocess_exec(
        RELAY, "demo", stdout=asyncio.subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    async with asyncio.timeout(120):
        first = (await process.stdout.readline()).decode()
        found = re.search(r"http://\S+", first)
        assert found, first
        async with ClientSession() as session, session.get(found[0]) as answer:
            assert answer.status == 200
            page = await answer.text()
    assert "pusher" in page
    assert "demo" in page
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(120):
        assert await process.wait() == 0
