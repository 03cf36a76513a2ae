"""The socket between a supervisor and one of its workers.

The supervisor sends `Orders`, at the start and whenever they change; the worker sends a `Health` every
second. Each is a frame: four bytes for the length, then MessagePack. The socket is inherited and has no name
in the file system, so no other process can read the secrets of a configuration. If one end is closed, the
other end reads the end of the stream.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Generic, Self, TypeVar

import msgspec

from relay.admin.health import Health
from relay.settings.snapshot import Snapshot
from relay.store.deployment import Deployment

DESCRIPTOR = "RELAY_SUPERVISED"
"""The environment variable that holds the number of a worker's inherited socket."""

LARGEST_BACKLOG = 64 * 1024
"""Drop reports if the supervisor has not read this many bytes."""

_LENGTH = 4

ReceivedT = TypeVar("ReceivedT")


class Orders(msgspec.Struct, frozen=True):
    """The configuration and deployment that a supervisor assigns to its workers."""

    snapshot: Snapshot
    deployment: Deployment


class Link(Generic[ReceivedT]):
    """One end of the socket, on an event loop."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: type[ReceivedT]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.msgpack.Decoder(kind)

    @classmethod
    async def open(cls, end: socket.socket, kind: type[ReceivedT]) -> Self:
        """Open the link over a connected socket, which it closes. `kind` is the type that the other end
        sends."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end), kind)

    def send(self, frame: Orders | Health) -> None:
        """Send a frame without waiting. It is lost if the other end is closed or does not read."""
        waiting = self._writer.transport.get_write_buffer_size()
        if self._writer.is_closing() or (isinstance(frame, Health) and waiting > LARGEST_BACKLOG):
            return
        body = msgspec.msgpack.encode(frame)
        self._writer.write(len(body).to_bytes(_LENGTH) + body)

    async def frames(self) -> AsyncIterator[ReceivedT]:
        """Yield the frames of the other end until it is closed."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH))
                yield self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, msgspec.DecodeError):
            return

    def close(self) -> None:
        self._writer.close()


def inherited() -> socket.socket | None:
    """Return the socket to the supervisor that started this process, or None without one."""
    number = os.environ.pop(DESCRIPTOR, None)
    if number is None:
        return None
    end = socket.socket(fileno=int(number))
    # Not for children of this process.
    end.set_inheritable(False)
    end.setblocking(True)
    return end


def first_orders(end: socket.socket) -> Orders:
    """Wait for the first orders of the supervisor. Raises EOFError if it has ended."""
    length = int.from_bytes(_exactly(end, _LENGTH))
    return msgspec.msgpack.decode(_exactly(end, length), type=Orders)


def _exactly(end: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        chunk = end.recv(length - len(received))
        if not chunk:
            raise EOFError("the supervisor is gone")
        received += chunk
    return bytes(received)
