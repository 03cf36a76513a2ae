"""The name of the operator who runs a command."""

from __future__ import annotations

import getpass
import os
import socket


def operator() -> str:
    """Return `user@host` of this process; behind `sudo`, the user who typed the command."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
