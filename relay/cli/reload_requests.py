"""Notices the reload requests of operators in one process that reads a configuration file."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST = 5.0
"""Seconds between two reloads by request: a program that writes one request after the other must not keep
the workers busy."""


class ReloadRequests:
    """`seen` gets the request that each heartbeat has read."""

    def __init__(
        self,
        reload: Callable[[str], None],
        *,
        shortest: float = SHORTEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reload` gets each new request."""
        self._reload = reload
        self._shortest = shortest
        self._clock = clock
        self._last: str | None = None
        self._reloaded_at = -shortest

    def seen(self, request: str | None) -> None:
        """Reload if the request is new. None: no heartbeat has read it yet."""
        if request is None:
            return
        if self._last is None:
            self._last = request  # the file was read after it
            return
        now = self._clock()
        if not request or request == self._last or now - self._reloaded_at < self._shortest:
            return
        self._last, self._reloaded_at = request, now
        self._reload(request)
