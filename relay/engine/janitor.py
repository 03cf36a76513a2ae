"""Deletes dead letters beyond the limits of `dead`, and old entries of journals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.settings.options import DeadOptions, JournalOptions
from relay.store import dead
from relay.store.fleet import Fleet
from relay.store.journal import journal_stream
from relay.store.reading import read_all

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JanitorTuning:
    """Durations are in seconds."""

    first_pause: float = 3.0
    """Wait before the first trim, because a worker that starts serves messages first."""
    interval: float = 60.0
    """Wait between two trims."""


class Janitor:
    """The loop; `trim` is its step. Each worker runs one: dead letters that another one has deleted cost
    nothing."""

    def __init__(
        self, client: Client, settings: Settings, fleet: Fleet, *, tuning: JanitorTuning = JanitorTuning()
    ) -> None:
        self._tuning = tuning
        self._client = client
        self._prefix = settings.redis.prefix
        self._fleet = fleet
        self._lanes = {name: options.dead for name, options in settings.providers.items()}
        # Entries from before a journal was turned off go too, but not immediately.
        self._journals = {
            name: (options.journal or JournalOptions()).keep for name, options in settings.providers.items()
        }
        self._queues: Mapping[str, DeadOptions] = {
            queue.name: self._lanes[queue.provider] if queue.provider in self._lanes else DeadOptions()
            for queue in settings.queues
        }

    async def run(self) -> None:
        """Trim until cancelled."""
        await asyncio.sleep(self._tuning.first_pause)
        while True:
            try:
                await self.trim()
            except StoreError as error:
                logger.warning("cannot trim dead letters", error=str(error))
            await asyncio.sleep(self._tuning.interval)

    async def trim(self) -> int:
        """Delete dead letters that are too old or too many. Returns their number. Raises StoreError."""
        now, total = await self._fleet.now(), 0
        journals = {name: journal_stream(self._prefix, name) for name in self._journals}
        for name in await self._filled(journals):
            # Entries beyond `most` go when others come.
            await dead.trim(self._client, journals[name], before=now - self._journals[name], most=0)
        lanes = {name: dead.lane_stream(self._prefix, name) for name in self._lanes}
        for name in await self._filled(lanes):
            number = await self._trim(lanes[name], self._lanes[name], now)
            if number:
                await dead.count_trimmed(self._client, self._prefix, name, number)
                logger.warning("deleted dead letters beyond the limits", provider=name, number=number)
            total += number
        queues = {name: dead.queue_stream(self._prefix, name) for name in self._queues}
        for name in await self._filled(queues):
            number = await self._trim(queues[name], self._queues[name], now)
            if number:
                logger.warning("deleted dead letters beyond the limits", queue=name, number=number)
            total += number
        return total

    async def _filled(self, streams: Mapping[str, str]) -> list[str]:
        """Return the names of the streams that are not empty, in one round trip."""
        if not streams:
            return []
        lengths, _ = await read_all(self._client, *(("XLEN", stream) for stream in streams.values()))
        return [name for name, length in zip(streams, lengths, strict=True) if length != 0]

    async def _trim(self, stream: str, bounds: DeadOptions, now: float) -> int:
        before = now - bounds.keep if bounds.keep else 0.0
        return await dead.trim(self._client, stream, before=before, most=bounds.most)
