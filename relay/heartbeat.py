"""Says every few seconds that this worker lives."""

from __future__ import annotations

import asyncio
import time

import structlog

from relay.errors import StoreError
from relay.store.fleet import LEASE, Fleet, Profile

INTERVAL = 2.0
"""Seconds between two beats: several fit into a lease."""

logger = structlog.get_logger()


class Heartbeat:
    """The loop; `beat` is its step."""

    def __init__(self, fleet: Fleet, profile: Profile) -> None:
        self._fleet = fleet
        self.last = time.monotonic()
        """When Redis last took a beat, in monotonic seconds."""
        self._profile = profile

    def holds_lease(self) -> bool:
        """Whether the last beat is so fresh that nobody can have taken this worker for dead."""
        return time.monotonic() - self.last < LEASE

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                known = await self._fleet.beat(self._profile)
                self.last = time.monotonic()
                if not known:
                    logger.warning("the fleet took this worker for dead; what it held was handed on")
            except StoreError as error:
                logger.warning("no heartbeat", error=str(error))
