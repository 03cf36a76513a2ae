"""A pause as an operator types it: who makes it, for how long, and why."""

from __future__ import annotations

import getpass
import os
import socket

from relay.errors import UsageError
from relay.settings.durations import parse_duration
from relay.store.pause import Pause
from relay.text import one_line

LONGEST_PAUSE = 3650 * 86400.0


def operator() -> str:
    """`user@host` of this process; behind `sudo`, the user who typed it."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def pause_seconds(text: str | None) -> float | None:
    """The value of `--for` in seconds. Raises UsageError if it is not a duration."""
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--for: {error}") from error
    if not 0 < seconds <= LONGEST_PAUSE:
        raise UsageError(
            f"--for: {text} is out of range: write 1s to 3650d, or leave it out to pause for good"
        )
    return seconds


def a_pause(seconds: float | None, because: str, now: float) -> Pause:
    """A pause that begins now by Redis's clock; `seconds` None: without an end."""
    return Pause(0.0 if seconds is None else now + seconds, now, operator(), one_line(because))
