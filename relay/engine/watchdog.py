"""Drops connections that look alive but return nothing, so that the loops open new ones.

Each call to Redis has a time limit of its own. Three failures escape these limits: a proxy or an old master
that still answers and has no elements any more, a host that is silent since Sentinel has named another, and
an answer that never reaches its loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from relay.engine.intake import Intake
from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.redis_client.connect import drop_connections, follow_master
from relay.store.fleet import LEASE

INTERVAL = 2.0
"""Seconds between two looks."""

QUEUES_INTERVAL = 5
"""Looks for each one at how much waits in the queues."""

logger = structlog.get_logger()


class Watchdog:
    """The loop; `look` is its step."""

    def __init__(
        self,
        client: Client,
        intakes: Sequence[Intake],
        last_beat: Callable[[], float],
        *,
        patience: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`last_beat` and `clock` return monotonic seconds: the last heartbeat that Redis took, and now."""
        self._clock = clock
        self._client = client
        self._intakes = intakes
        self._last_beat = last_beat
        self._patience = patience
        self._starving: dict[str, tuple[int, float]] = {}
        self._dropped = self._clock()
        self._looks = 0
        self.reconnections = 0
        """How often all connections were dropped."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Drop the connections if nothing has moved for too long, once for each `patience`."""
        if await follow_master(self._client):
            logger.warning("the Redis master moved; opening new connections")
            self._note()
            return
        if self._looks % QUEUES_INTERVAL == 0:
            await self._look_at_queues()
        self._looks += 1
        troubles = self._stalls()
        if troubles and self._clock() - self._dropped > self._patience:
            redis_trouble.log("Redis connections are stalled; opening new ones", "; ".join(troubles))
            await drop_connections(self._client)
            self._note()

    def troubles(self) -> list[str]:
        """One line for each stall, and for each queue that Redis has refused for longer than `patience`."""
        now = self._clock()
        refused = ((intake.queue.name, intake.progress.refused) for intake in self._intakes)
        return [
            *self._stalls(),
            *(
                f"queue {name}: Redis refuses it for {now - refusal.since:.0f} s: {refusal.text}"
                for name, refusal in refused
                if refusal and now - refusal.since > self._patience
            ),
        ]

    def _stalls(self) -> list[str]:
        """One line for each lack of progress for longer than `patience`: new connections may help."""
        now = self._clock()
        found = []
        if (silent := now - self._last_beat()) > self._patience:
            found.append(f"no heartbeat for {silent:.0f} s")
        for intake in self._intakes:
            name = intake.queue.name
            since = self._starving[name][1] if name in self._starving else now
            if (silent := now - intake.progress.answered_at) > self._patience:
                found.append(f"queue {name}: no answer for {silent:.0f} s")
            elif now - since > self._patience:
                found.append(f"queue {name}: elements wait for {now - since:.0f} s, and none comes")
        return found

    def _note(self) -> None:
        self._dropped = self._clock()
        self._starving.clear()
        self.reconnections += 1

    async def _look_at_queues(self) -> None:
        for intake in self._intakes:
            name = intake.queue.name
            try:
                waiting, _ = await intake.queue.depth(())
            except StoreError:
                continue
            if not waiting or not intake.progress.waiting:
                self._starving.pop(name, None)
            elif name not in self._starving or self._starving[name][0] != intake.progress.fetched:
                self._starving[name] = (intake.progress.fetched, self._clock())
