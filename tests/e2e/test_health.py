"""`relay health`, a probe for containers."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from relay.admin.probe import NoAnswerError, ask
from relay.engine.failure_detector import host_id
from relay.settings.endpoints import Endpoints, read_endpoints
from relay.store.fleet import Fleet, WorkerInfo
from testing.ports import free_port
from testing.relay_process import Finished, relay, write_config
from testing.site import Site


async def health(config: Path, *words: str) -> Finished:
    return await relay("health", "-c", str(config), *words)


async def test_a_probe_reports_a_worker_that_stops_making_progress(site: Site) -> None:
    admin = {"listen": f"0.0.0.0:{free_port()}", "token": "open-sesame"}
    config = site.configure({"hook": site.webhook()}, admin=admin)
    async with site.worker() as running:
        shown = await health(config)
        assert (shown.code, shown.out, shown.err) == (0, "healthy: 1 worker\n", "")
        assert (await health(config, "--json")).json == {
            "healthy": True,
            "source": "admin",
            "workers": 1,
            "troubles": [],
        }
        write_config(site.folder, site.server.url, {"hook": site.webhook()}, admin={**admin, "token": "new"})
        other = await health(config, "--json")
        assert other.json["source"] == "heartbeats", "a rotated token does not make a worker unhealthy"
        assert other.code == 0
        running.signal(signal.SIGSTOP)
        port = admin["listen"].partition(":")[2]
        answer = await asyncio.to_thread(ask, ("127.0.0.1", int(port)), "open-sesame", 0.2)
        running.signal(signal.SIGCONT)
    assert answer.troubles == [f"127.0.0.1:{port} did not answer within 0.2 s"]
    gone = await health(config)
    assert gone.code == 1
    assert gone.err.startswith(f"unhealthy: nothing listens on 127.0.0.1:{port}; no worker of ")
    assert gone.err.count("\n") == 1


async def test_heartbeats_decide_if_the_admin_port_is_off(site: Site) -> None:
    config = site.configure({"hook": site.webhook()})
    fleet = Fleet(site.redis, "relay")
    elsewhere = WorkerInfo("other", "elsewhere", "another kernel", 1, "1", 1.0)
    await fleet.heartbeat(elsewhere)
    assert "no worker of " in (await health(config)).err
    own = WorkerInfo("own", socket.gethostname(), host_id(), 77, "1", 1.0)
    await fleet.heartbeat(own)
    assert (await health(config)).out == "healthy: 1 worker\n"
    await site.redis.zadd("relay:{fleet}:workers", {"own": 1000})
    silent = await health(config)
    assert silent.code == 1
    assert silent.err.startswith("unhealthy: worker 77 sent its last heartbeat ")


async def test_a_probe_of_a_bad_file_fails_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text("redis: {url: 'ftp://x'}\n")
    refused = await health(config)
    assert refused.code == 2
    assert str(config) in refused.err
    assert (await relay("health", "-c", str(tmp_path / "none"))).code == 2


async def test_an_embedded_redis_is_not_started_by_a_probe(tmp_path: Path) -> None:
    config = write_config(tmp_path, f"embedded://{tmp_path}/data", {"hook": {"type": "webhook"}})
    refused = await health(config)
    assert (refused.code, (tmp_path / "data").exists()) == (1, False)


async def test_a_port_of_another_program_is_not_taken_for_relay() -> None:
    app = web.Application()
    app.router.add_get("/healthz", _ok)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with pytest.raises(NoAnswerError, match="another program answers"):
            await asyncio.to_thread(ask, ("127.0.0.1", port))
    finally:
        await runner.cleanup()


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def test_a_probe_imports_neither_the_option_parser_nor_the_models_of_the_file() -> None:
    """They take longer than the probe."""
    program = (
        "import sys; from pathlib import Path; from relay.cli.health import probe;"
        "from relay.settings.endpoints import read_endpoints;"
        "read_endpoints(Path('config.example.yaml'), {});"
        "print(sorted({'typer', 'pydantic', 'redis', 'asyncio', 'rich', 'pycurl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_addresses_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    file = tmp_path / "relay.yaml"
    file.write_text(
        "redis: {url: '${URL:-redis://r:1/0}', prefix: shop}\n"
        "admin: {listen: '[::]:99', token_file: token}\nproviders: {x: {type: of no adapter}}\n"
    )
    found = read_endpoints(file, {})
    assert found == Endpoints("[::]:99", "secret", "redis://r:1/0", "shop")
    assert found.admin == ("::1", 99)
    file.write_text("admin: {listen: ''}\n")
    assert read_endpoints(file, {}).admin is None
    file.write_text("queues: []\n")
    assert read_endpoints(file, {}) == Endpoints()
