"""The health report of one worker process, as `/healthz` shows it and a supervisor reads it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """One report. All durations are in seconds."""

    worker: str
    """The worker's name in the fleet; empty before it has joined."""
    pid: int
    settings: str
    """Digest of the configuration that the process works with."""
    troubles: tuple[str, ...] = ()
    """One line for each thing that stands still or keeps failing; empty if the worker is healthy."""
    failures: Mapping[str, int] = {}
    """How often each part (`lane pusher`, `queue hits`, `outbox pusher`, `recovery`, …) was restarted after
    an unexpected exception."""
    reconnections: int = 0
    """How often all connections to Redis were dropped because nothing moved."""
    seconds_since_redis_answered: float = 0.0
    log_lines_dropped: int = 0
    """Log lines that could not be written: a full disk, a closed or blocked pipe."""

    @property
    def healthy(self) -> bool:
        return not self.troubles
