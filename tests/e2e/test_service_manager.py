"""relay under a service manager: systemd's side of the protocol is a real datagram socket."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.admin.health import Health, WorkerReport
from relay.cli.service_manager import status_line
from relay.store.deployment import Deployment, ReloadFailure
from testing.redis_server import RedisServer
from testing.relay_process import worker, write_config

UNIT = Path("deploy/systemd/relay.service")
PROVIDER = {"out": {"type": "redis", "url": "redis://127.0.0.1:1/0"}}


class Messages:
    """The messages that a process sends to its service manager."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.all: list[dict[str, str]] = []

    async def wait_for(self, name: str, value: str = "", after: int = 0) -> int:
        """Wait until a field has a value that contains this text. Returns the number of its message."""
        async with asyncio.timeout(120):
            while True:
                for number, message in enumerate(self.all[after:], after + 1):
                    if value in message.get(name, "\0"):
                        return number
                data = await asyncio.get_running_loop().sock_recv(self._end, 4096)
                self.all.append(dict(line.split("=", 1) for line in data.decode().splitlines()))


@contextmanager
def a_service_manager(address: str) -> Iterator[Messages]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address.replace("@", "\0"))
        end.setblocking(False)
        yield Messages(end)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_start_a_reload_and_a_stop_are_reported(
    redis_server: RedisServer, tmp_path: Path, processes: str
) -> None:
    config = write_config(tmp_path, redis_server.url, PROVIDER, processes=int(processes))
    good = config.read_text()
    # systemd uses a path, containers and old versions a name in the abstract space.
    address = str(tmp_path / "notify") if processes == "1" else f"@relay-{tmp_path}"
    with a_service_manager(address) as messages:
        ready = "ready" if processes == "1" else "supervising"
        async with worker(config, ready=ready, NOTIFY_SOCKET=address, WATCHDOG_USEC="1500000") as running:
            at = await messages.wait_for("READY", "1")
            assert await messages.wait_for("STATUS", f"{processes} of {processes} workers are healthy")
            assert await messages.wait_for("WATCHDOG", "1", after=at)

            config.write_text("nonsense: [")
            running.signal(signal.SIGHUP)
            at = await messages.wait_for("RELOADING", "1", after=at)
            assert int(messages.all[at - 1]["MONOTONIC_USEC"]) > 0
            at = await messages.wait_for("READY", "1", after=at)
            # `systemctl reload` returns now, and `systemctl status` shows the result.
            assert "the last reload failed: " in messages.all[at - 1]["STATUS"]

            config.write_text(good)
            running.signal(signal.SIGHUP)
            at = await messages.wait_for("RELOADING", "1", after=at)
            at = await messages.wait_for("READY", "1", after=at)
            assert messages.all[at - 1]["STATUS"] == f"{processes} of {processes} workers are healthy"

            running.signal(signal.SIGTERM)
            assert await messages.wait_for("STOPPING", "1", after=at)
            assert await running.ended() == 0


def test_a_status_line_has_one_line_for_any_trouble() -> None:
    health = Health(worker="w", pid=7, settings="", troubles=("lane a:\n\x1b[31mred",))
    reports = [
        WorkerReport(pid=7, age=0.0, health=health),
        WorkerReport(pid=8, age=0.0, health=Health(worker="v", pid=8, settings="")),
        WorkerReport(pid=0, age=60.0),
    ]
    failed = Deployment("s", 3, ReloadFailure("relay.yaml:1:1: queues: missing", 2, 0.0))
    line = status_line(failed, reports)
    assert line.startswith(
        "1 of 3 workers are healthy; the last reload failed: relay.yaml:1:1: queues: missing"
    )
    assert "worker 7: lane a:" in line
    assert line.isprintable()
    assert len(status_line(failed, reports * 50)) <= 200


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_valid_and_hardened() -> None:
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, check=False
    )
    complaints = [
        line
        for line in verified.stderr.splitlines()
        # systemd before 253 does not know this type; the program is not in /opt on this machine.
        if "relay.service" in line and "notify-reload" not in line and "/opt/relay" not in line
    ]
    assert not complaints
    command = ["systemd-analyze", "security", "--offline=true", str(UNIT)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    level = re.search(r"exposure level for relay.service: ([\d.]+)", rated.stdout)
    assert level
    assert float(level[1]) < 2
