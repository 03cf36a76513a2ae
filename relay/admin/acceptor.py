"""Accepts a limited number of connections, so that a flood cannot exhaust the descriptors of the process."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

MOST: Final = 64
"""Maximum number of connections. A further one replaces the oldest."""

SHARE: Final = 4
"""The share of the process's descriptors that may be used: one in four."""

PAUSE: Final = 1.0
"""Seconds until the next try if a connection cannot be accepted, for example without a free descriptor."""

BACKLOG: Final = 64
"""Connections that may wait to be accepted."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets, one for each address of the host. Raises OSError, for example if the port is
    taken."""
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            try:
                listeners.append(_listener(*found))
            except OSError as error:
                # `localhost` may have an address of a family that this host does not support.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing is not None and not listeners:
            raise missing
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listener(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, _: str, address: Any
) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        # Allows to bind a port whose last connections are still closing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class Acceptor:
    """Accepts connections, and creates a protocol for each with the factory."""

    def __init__(self, listeners: Sequence[socket.socket], factory: Callable[[], asyncio.Protocol]) -> None:
        self._listeners = listeners
        self._factory = factory
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, min(MOST, descriptors // SHARE)) if descriptors > 0 else MOST
        self._open: deque[asyncio.Transport] = deque()

    async def run(self) -> None:
        """Accept until cancelled."""
        async with asyncio.TaskGroup() as group:
            for listener in self._listeners:
                group.create_task(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            await self._make_room()
            try:
                transport, _ = await loop.connect_accepted_socket(self._factory, connection)
            except OSError:
                connection.close()
            else:
                self._open.append(transport)

    async def _make_room(self) -> None:
        self._open = deque(transport for transport in self._open if not transport.is_closing())
        while len(self._open) >= self._most:
            self._open.popleft().abort()
            # Its descriptor is free after the next iteration of the event loop.
            await asyncio.sleep(0)
