"""Loopback ports that no other test process gets, however many of them run at the same time."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

LOWEST, HIGHEST = 10_000, 32_767
"""Below the ports that Linux gives to clients and to servers that ask for any port: from there, another
process may get a port between our look at it and the server's start."""

_held: list[int] = []
"""Descriptors of the lock files: a port is ours for the life of this process."""


def free_port() -> int:
    """A TCP port of the loopback interface on which no process listens."""
    return _free_port(0)


def free_port_with_bus(distance: int = 10_000) -> int:
    """A free port of a cluster node, whose bus port, `distance` above it, is free as well."""
    return _free_port(distance)


def _free_port(distance: int) -> int:
    for port in random.sample(range(LOWEST, HIGHEST + 1 - distance), HIGHEST + 1 - distance - LOWEST):
        if _hold(port) and (not distance or _hold(port + distance)):
            return port
    raise OSError(f"no free port from {LOWEST} to {HIGHEST}")


def _hold(port: int) -> bool:
    """Whether the port is free, and nobody else's from now on."""
    folder = Path(tempfile.gettempdir()) / f"relay-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            # Servers may listen on a port whose last connections have just ended.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        os.close(lock)
        return False
    _held.append(lock)
    return True
