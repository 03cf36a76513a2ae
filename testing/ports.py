"""Loopback ports that no other test process gets, even if several run at the same time."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

LOWEST, HIGHEST = 10_000, 32_767
"""Below the range that Linux uses for clients and for servers on port 0: a port of that range could be taken
between our check and the start of the server."""

_held: list[int] = []
"""Descriptors of the lock files. They reserve a port for the life of this process."""


def free_port() -> int:
    """Return a TCP port of the loopback interface on which no process listens."""
    return _free_port(0)


def free_port_with_bus(distance: int = 10_000) -> int:
    """Return a free port for a cluster node. Its bus port, `distance` above it, is free as well."""
    return _free_port(distance)


def _free_port(distance: int) -> int:
    for port in random.sample(range(LOWEST, HIGHEST + 1 - distance), HIGHEST + 1 - distance - LOWEST):
        if _hold(port) and (not distance or _hold(port + distance)):
            return port
    raise OSError(f"no free port from {LOWEST} to {HIGHEST}")


def _hold(port: int) -> bool:
    """Reserve a port. Returns False if it is not free."""
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
