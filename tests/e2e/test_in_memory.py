"""A worker that is ready has all its code in memory: the package may be replaced under it."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from testing.relay_process import Worker, environment
from testing.site import Site
from tests.e2e.test_sandbox import Running, sandbox

ROOT = Path(__file__).parents[2]


AUDITED = """
import os, sys

lines = []

def audit(event, arguments):
    if event in ("open", "import") and isinstance(arguments[0], str):
        lines.append(f"{event} {arguments[0]}")

import relay.__main__
assert relay.__file__.startswith(os.environ["PYTHONPATH"])
from relay.engine.worker import Worker

wait = Worker._wait

async def audited(self, *arguments, **keywords):
    lines.clear()
    sys.addaudithook(audit)
    await wait(self, *arguments, **keywords)
    with open(os.environ["AUDIT"], "w") as file:
        file.write("\\n".join(lines))

Worker._wait = audited
relay.__main__.main()
"""
"""`relay run` that records the files it opens and the modules it imports while it works."""

ALLOWED = re.compile(
    # Name resolution, random numbers, time zones, and the audit's own output.
    r"open (/proc/|/etc/|/dev/urandom|/usr/share/zoneinfo|.*/audit\.txt$)"
    # Modules that are in memory already, imported again by name.
    r"|import (redis|redis\.observability|redis\.observability\.recorder)$"
)


def copy_of_the_package(folder: Path) -> Path:
    """The package as another installation would hold it."""
    package = folder / "package"
    for name in ("relay", "providers"):
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def replace(package: Path) -> None:
    """Overwrite every file with garbage, as an upgrade to a broken version would."""
    for path in [*package.rglob("*")]:
        if path.is_file():
            path.write_text("this is neither Python nor Lua (")


@asynccontextmanager
async def audited_worker(config: Path, package: Path, audit: Path) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", "-c", AUDITED, "run", "-c", str(config)),
        stderr=asyncio.subprocess.PIPE,
        cwd=package,
        env=environment(PYTHONPATH=str(package), AUDIT=str(audit)),
        limit=1 << 20,
    )
    running = Worker(process)
    try:
        await running.says("ready")
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def messages(running: Running) -> list[dict[str, Any]]:
    """Messages of every kind."""
    found = await running.get("subscriptions")
    subscription = found.get("subscription", found)
    return [
        {"provider": "webhook", "payload": {"body": {}}, "reply_to": "receipts:all", "delay": 1},
        {"provider": "pusher", "payload": {"channel": "c", "event": "e", "data": {}}, "collapse_key": "k"},
        {"provider": "fcm", "payload": {"targets": ["a", "b", "c"], "notification": {"title": "t"}}},
        {"provider": "webpush", "payload": {"subscription": subscription, "data": "d"}, "ordering_key": "o"},
        {"provider": "webpush", "payload": {"subscription": subscription, "data": "d"}, "ordering_key": "o"},
        {"provider": "apns", "payload": {"device_token": "a" * 64, "aps": {"alert": "x"}}},
        {"provider": "redis", "payload": {"stream": "elsewhere", "data": "x"}},
        {"provider": "own", "payload": {"url": "http://127.0.0.1:9/", "body": {}}},
        {"provider": "refused", "payload": {"body": {}}},
    ]


async def test_a_worker_goes_on_with_its_own_code_when_the_package_is_replaced(site: Site) -> None:
    """All kinds of messages are sent, and those of a killed worker are recovered, after every file of the
    package was overwritten. Nothing is opened or imported meanwhile."""
    site.receiver.gate.clear()
    async with sandbox(site.folder / "keys") as running:
        providers = {
            **running.providers,
            "redis": {"type": "redis"},
            "own": {"type": "webhook"},
            "refused": {"type": "webhook", "url": "http://127.0.0.1:9/", "retry": {"attempts": 1}},
            "held": {"type": "webhook", "url": f"{site.receiver.url}/", "concurrency": 1},
        }
        config = site.configure(providers, [{"name": "notifications"}])
        package, audit = copy_of_the_package(site.folder), site.folder / "audit.txt"
        async with audited_worker(config, package, site.folder / "other.txt") as killed:
            await site.push('{"provider":"held","payload":{"body":{}}}')
            await site.receiver.until(1)
            async with audited_worker(config, package, audit) as worker:
                replace(package)
                killed.process.kill()
                sent = await messages(running)
                await site.push("nonsense", *sent)
                expected = {"webhook": 1, "pusher": 1, "fcm": 3, "webpush": 2, "apns": 1, "redis": 1}
                site.receiver.gate.set()
                expected["held"] = 1
                async with asyncio.timeout(120):
                    while True:
                        totals = {
                            name: int(await site.redis.hget(f"relay:{{{name}}}:control", "delivered") or 0)
                            for name in expected
                        }
                        if totals == expected and await site.redis.xlen("relay:{refused}:dead"):
                            break
                        await asyncio.sleep(0.02)
                worker.signal(signal.SIGHUP)
                await worker.says("ready", times=2)
                worker.signal(signal.SIGTERM)
                assert await worker.ended() == 0
        opened = [line for line in audit.read_text().splitlines() if not ALLOWED.match(line)]
        assert opened == []
