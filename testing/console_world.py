"""A fleet for tests of the console: Redis, a worker, and receivers that accept, refuse and fail."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_connection
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from relay.store.keys import FleetKeys
from testing.ports import free_port
from testing.redis_server import RedisServer
from testing.relay_process import RELAY, environment, write_config

OPERATOR = "operators-token-1"
VIEWER = "viewers-token-2"

HOSTILE = "<img src=x onerror=hacked()><script>hacked()</script>{{7*7}}\u202e\x1b[31m'\"`"
"""Text that runs as a script, changes the page or the direction of text, if a page does not escape it."""


@dataclass(frozen=True)
class World:
    """`url` is that of the console; `config` the file of the worker."""

    url: str
    redis: Redis
    config: Path

    def push(self, queue: str, *messages: dict[str, Any]) -> None:
        self.redis.rpush(queue, *(json.dumps(message) for message in messages))

    def json(self, *words: str) -> Any:
        """Return the output of a command, as data."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def workers(self) -> set[str]:
        """Return the names of the workers."""
        names: Any = self.redis.zrange(FleetKeys("relay").workers, 0, -1)
        return {name.decode() for name in names}

    def wait_for_successor(self, workers: set[str]) -> None:
        """Return when other workers have taken the place of these, and the console answers again."""
        address = urlsplit(self.url)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (now := self.workers()) and not now & workers:
                with suppress(OSError), create_connection((address.hostname or "", address.port or 0)):
                    return
            time.sleep(0.05)
        raise AssertionError(f"no worker has taken the place of {workers}")

    @contextmanager
    def console(self) -> Iterator[str]:
        """Run `relay console` next to the worker. Yields its URL."""
        process = subprocess.Popen(
            [RELAY, "console", "--listen", "127.0.0.1:0", "-c", str(self.config)],
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert "console at " in line, line
            yield line.split()[2].rstrip(";")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
            process.stderr.close()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        command, *arguments = words
        return subprocess.run(
            [RELAY, command, "-c", str(self.config), *arguments],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=120,
            check=False,
        )


class _Receiver(BaseHTTPRequestHandler):
    """Answers with the status in the path: `/400`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = int(self.path.rpartition("/")[2])
        body = HOSTILE.encode() if status >= 400 else b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # The worker may have ended.
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def world(folder: Path, server: RedisServer) -> Iterator[World]:
    """Run a worker with its console: providers `hooks` (accepts), `broken` (refuses) and `quiet`."""
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    Thread(target=receiver.serve_forever, daemon=True).start()
    port = free_port()
    redis = Redis.from_url(server.url, protocol=2)
    redis.flushall()

    def webhook(status: int, **fields: Any) -> dict[str, Any]:
        return {"type": "webhook", "url": f"http://127.0.0.1:{receiver.server_port}/{status}", **fields}

    config = write_config(
        folder,
        server.url,
        {
            "hooks": webhook(200, rate="500/s", groups={"by": "message"}),
            "broken": webhook(400),
            "quiet": webhook(200),
        },
        [
            {"name": "notifications", "provider": "hooks"},
            {"name": "bad", "provider": "broken"},
            {"name": f"q {HOSTILE}", "provider": "quiet"},
        ],
        admin={
            "listen": f"127.0.0.1:{port}",
            "token": OPERATOR,
            "viewer_token": VIEWER,
            "environment": "production",
        },
    )
    process = subprocess.Popen(
        [RELAY, "run", "-c", str(config), "--processes", "1"],
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if '"ready"' in line:
                break
        assert '"ready"' in line, lines
        # The pipe must not fill up.
        Thread(target=process.stderr.read, daemon=True).start()
        yield World(f"http://127.0.0.1:{port}", redis, config)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        receiver.shutdown()
        redis.close()
