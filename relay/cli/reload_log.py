"""Records reloads by a signal in the audit log. `relay reload` records its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import structlog

from relay.cli import common
from relay.cli.configuration import Loaded
from relay.errors import RelayError
from relay.settings.models import Settings
from relay.store import audit
from relay.store.audit import AuditEntry
from relay.store.deployment import ReloadFailure

logger = structlog.get_logger()


class ReloadLog:
    """Records in a task of its own, because Redis may be slow or away."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """`settings` returns those in force."""
        self._settings = settings
        self._results: asyncio.Queue[Loaded | ReloadFailure] = asyncio.Queue()

    def add(self, result: Loaded | ReloadFailure) -> None:
        """Record the result of a reload soon."""
        self._results.put_nowait(result)

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            result = await self._results.get()
            why = f"the old configuration stays: {result}" if isinstance(result, ReloadFailure) else ""
            entry = AuditEntry("reload", f"SIGHUP@{socket.gethostname()}", why=why)
            settings = self._settings()
            try:
                # A reload is rare, so it has a connection of its own.
                async with common.redis(settings) as client:
                    await audit.record(client, settings.redis.prefix, entry)
            except RelayError as error:
                logger.warning("a reload is not in the audit log", error=str(error))
