"""A Redis server that relay starts, for machines without one: `embedded://DIR`, or `embedded://DIR?port=6380`.

The server is the newest that `binaries` finds. The data stay in DIR as an append-only file. Any number of
relay processes may share a DIR: one of them owns the server, which starts it, starts it again if it ends, and
stops it at its own end. Then another one becomes the owner. With a port it also listens on 127.0.0.1, for
programs without unix sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relay.errors import StoreError, UsageError
from relay.redis_client import binaries
from relay.redis_client.client import Client
from relay.redis_client.topology import Topology
from relay.settings.redis_url import EmbeddedPlace

START_TIMEOUT = 30.0
"""Seconds that the server may take to load its data."""

KEEP_INTERVAL = 1.0
"""Seconds between two looks at a running server."""

LOOPBACK = "127.0.0.1"

_LONGEST_SOCKET = 100  # sockaddr_un holds 107 bytes


class EmbeddedRedis:
    """A context manager: inside it, `url` leads to a running server whose data are in `directory`."""

    def __init__(self, place: EmbeddedPlace) -> None:
        self.directory = place.directory.resolve()
        self._port = place.port
        self.socket = self.directory / "redis.sock"
        if len(str(self.socket)) > _LONGEST_SOCKET:
            digest = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
            self.socket = Path(tempfile.gettempdir()) / f"relay-{os.getuid()}-{digest}.sock"
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._binary: binaries.Binary | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The URL for clients."""
        return url_of_socket(str(self.socket))

    async def __aenter__(self) -> EmbeddedRedis:
        self._make_directory()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._begin()
        except TimeoutError:
            raise StoreError(
                f"the embedded Redis does not answer; see {self.directory / 'redis.log'}"
            ) from None
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def _begin(self) -> None:
        """Return when the server answers. Starts it unless another process owns it."""
        while True:
            self._try_lock()
            if await self._answers():
                if self._binary is not None:
                    binaries.mark(self.directory, self._binary.version)
                return
            if self._lock is not None and self._server is None:
                self._start()
            if self._server is not None and self._server.poll() is not None:
                raise StoreError(f"the embedded Redis ended immediately; see {self.directory / 'redis.log'}")
            await asyncio.sleep(0.02)

    async def _keep(self) -> None:
        """Start the server again whenever it has ended, and become its owner when that is gone, until
        cancelled."""
        is_reported = False
        while True:
            await asyncio.sleep(KEEP_INTERVAL)
            error = ""
            try:
                self._try_lock()
                if self._lock is None or not await self._has_ended():
                    is_reported = False
                    continue
                self._start()
            except (OSError, StoreError, UsageError) as failure:
                error = str(failure)
            if not is_reported:
                is_reported = True
                # Short commands use this module too, and structlog loads rich.
                import structlog

                structlog.get_logger().warning(
                    "the embedded Redis has ended; starting it again", folder=str(self.directory), error=error
                )

    async def _has_ended(self) -> bool:
        if self._server is not None:
            return self._server.poll() is not None
        # An earlier owner has started it.
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        writer.close()
        return False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._lock is None:
            return
        with contextlib.suppress(RedisError, OSError):
            async with self._client() as client:
                await client.shutdown(nosave=True)
        if self._server is not None:
            await asyncio.to_thread(self._server.wait, START_TIMEOUT)
        self._lock.close()

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(
                f"redis.url: cannot make the folder {self.directory}: {error.strerror}"
            ) from error

    def _try_lock(self) -> None:
        """Take over starting and stopping the server, unless another process does it."""
        if self._lock is not None:
            return
        lock = (self.directory / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            self._lock = lock

    async def _answers(self) -> bool:
        try:
            async with self._client() as client:
                return bool(await client.ping())
        except (RedisError, OSError):
            return False

    def _client(self) -> Redis:
        return Redis(
            unix_socket_path=str(self.socket), socket_timeout=START_TIMEOUT, retry=Retry(NoBackoff(), 0)
        )

    def _check_port(self) -> None:
        """Raise StoreError if another program has the port."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, self._port))
            except OSError as error:
                raise StoreError(
                    f"redis.url: cannot open port {self._port} of {LOOPBACK}: {error.strerror}; "
                    "write another port, or leave `?port=…` out"
                ) from error

    def _start(self) -> None:
        log = self.directory / "redis.log"
        binary = self._binary = binaries.choose(self.directory)
        if self._port:
            self._check_port()
        self._server = subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
            [
                *(
                    binary.path,
                    "--port",
                    str(self._port),
                    "--bind",
                    LOOPBACK,
                    "--unixsocket",
                    str(self.socket),
                    "--unixsocketperm",
                    "700",
                ),
                *("--dir", str(self.directory), "--appendonly", "yes", "--save", "", "--logfile", str(log)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C must not stop it, because the worker still needs Redis to finish.
            start_new_session=True,
        )


async def address_of(client: Client) -> str:
    """The URL at which programs of this host reach the embedded server of this client."""
    server = Topology.of(client).one
    assert server is not None
    if port := (await server.info("server"))["tcp_port"]:
        return f"redis://{LOOPBACK}:{port}/0"
    return url_of_socket(server.connection_pool.connection_kwargs["path"])


def url_of_socket(path: str) -> str:
    """Return the URL of a unix socket, whose path may have spaces and other characters with a meaning."""
    return f"unix://{quote(path)}"
