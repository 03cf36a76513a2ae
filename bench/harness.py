"""Shared by benchmarks of whole workers: a Redis, receivers and worker processes, all of them real."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from redis import Redis

from testing.redis_server import RedisServer, binaries

RELAY = str(Path(sys.executable).parent / "relay")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FILLER = "x" * 190


def element(number: int) -> str:
    """Return a payload of about 250 bytes that contains its number."""
    return json.dumps({"channel": "site-1", "hits": 3, "n": number, "path": f"/{FILLER}"})


def webhook(port: int, **options: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": f"http://127.0.0.1:{port}/hook", "secret": SECRET, **options}


def pusher(port: int, **options: Any) -> dict[str, Any]:
    """Return a provider that sends up to ten events per request."""
    url = f"http://127.0.0.1:{port}"
    return {"type": "pusher", "app_id": "3", "key": "k", "secret": "s", "url": url, "event": "hit", **options}


def wait_for(done: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when the condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition did not hold within {seconds:g} s")
        time.sleep(0.02)


@contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """Run a Redis without persistence, and yield a client."""
    server = RedisServer(max(binaries().items())[1], folder / "redis", "--appendonly", "no").start()
    try:
        with Redis(port=server.port) as client:
            yield client
    finally:
        server.stop()


class Arrivals:
    """A `bench.arrivals` process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.port = int(self._out.readline())
        self.lag = 0.0

    def read_new(self) -> list[list[float]]:
        """Return the new requests, as [Unix seconds, number, …]."""
        self._in.write("\n")
        self._in.flush()
        found: dict[str, Any] = json.loads(self._out.readline())
        self.lag = max(self.lag, found["lag"])
        arrivals: list[list[float]] = found["arrivals"]
        return arrivals


@contextmanager
def receiver(*words: str) -> Iterator[Arrivals]:
    """Run a receiver."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.arrivals", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Arrivals(process)
        finally:
            process.terminate()


@contextmanager
def workers(
    folder: Path,
    redis: Redis,
    providers: Mapping[str, Mapping[str, Any]],
    *,
    processes: int = 1,
    queues: Mapping[str, str] | None = None,
    queue_format: str = "bare",
) -> Iterator[list[int]]:
    """Run worker processes and yield their pids once all have joined the fleet.

    `queues` maps each queue to its provider. Default: one queue per provider, with the same name.
    """
    port = redis.connection_pool.connection_kwargs["port"]
    names = queues if queues is not None else {provider: provider for provider in providers}
    path = folder / "relay.yaml"
    document = {
        "redis": {"url": f"redis://127.0.0.1:{port}/0"},
        "queues": [
            {"name": name, "provider": provider, "format": queue_format} for name, provider in names.items()
        ],
        "providers": {name: dict(options) for name, options in providers.items()},
        "processes": 1,
        "admin": {"listen": ""},
        "shutdown_timeout": "1s",
        "log": {"level": "error"},
    }
    path.write_text(yaml.safe_dump(document))
    log = (folder / "relay.log").open("ab")
    command = [RELAY, "run", "-c", str(path)]
    running = [subprocess.Popen(command, stderr=log) for _ in range(processes)]
    try:
        wait_for(lambda: redis.zcard("relay:{fleet}:workers") == processes)
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        log.close()


def cpu(pid: int) -> float:
    """Return the CPU seconds that all threads of a process have used (Linux)."""
    used = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        used += int((thread / "schedstat").read_text().split()[0])
    return used / 1e9
