"""Wakes the lanes of other workers, and is woken by them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from relay.engine.dispatcher import Dispatcher
from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.store.fleet import Fleet

NOTIFY_INTERVAL = 0.25
"""Seconds between two calls to other workers."""

LISTEN_PAUSE = 1.0
"""Seconds before listening again after Redis failed."""


class Peers:
    """The other workers of the fleet that serve the same lanes. Has two loops."""

    def __init__(self, fleet: Fleet, dispatchers: Mapping[str, Dispatcher]) -> None:
        """`dispatchers` are those of this worker, by provider."""
        self._fleet = fleet
        self._dispatchers = dispatchers
        self._surplus: set[str] = set()
        """Lanes with messages that other workers should claim."""
        self._has_surplus = asyncio.Event()

    def on_ready(self, provider: str, ready: int) -> None:
        """Notify other workers of a lane if it has more ready messages than this worker can send."""
        if ready > self._dispatchers[provider].slots:
            self.call(provider)

    def call(self, provider: str) -> None:
        """Wake other workers for a lane."""
        self._surplus.add(provider)
        self._has_surplus.set()

    async def notify(self) -> None:
        """Wake other workers for lanes with a surplus, until cancelled."""
        while True:
            await self._has_surplus.wait()
            self._has_surplus.clear()
            lanes, self._surplus = list(self._surplus), set()
            try:
                await self._fleet.wake(lanes)
            except StoreError as error:
                redis_trouble.log("cannot wake other workers", error)
            await asyncio.sleep(NOTIFY_INTERVAL)

    async def listen(self) -> None:
        """Wake the lanes for which other workers call, until cancelled.

        Calls are lost while there is no connection, so a new connection wakes all lanes.
        """
        first = True
        while True:
            try:
                async for called in self._fleet.subscribe():
                    lanes = called if called is not None else () if first else self._dispatchers
                    for provider in self._dispatchers.keys() & lanes:
                        self._dispatchers[provider].wake()
                    first = False
            except StoreError as error:
                redis_trouble.log("cannot listen for wake-up calls", error)
            await asyncio.sleep(LISTEN_PAUSE)
