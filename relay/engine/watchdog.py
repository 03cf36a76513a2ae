"""Drops connections that look alive but return nothing, so that the loops open new ones.

Each call to Redis has a timeout of its own. Three failures escape these timeouts: a proxy or an old master
that still replies but receives no more elements, a host that is silent since Sentinel has named another one,
and a reply that never reaches its loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from relay.engine.intake import Intake
from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.redis_client.connect import drop_connections, follow_master
from relay.store.fleet import LEASE
from relay.store.queue import have_elements

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WatchdogTuning:
    """Durations are in seconds."""

    interval: float = 2.0
    """Wait between two checks."""
    checks_per_scan: int = 5
    """Scan the queues for waiting elements at one check of this many."""
    stall_threshold: float = LEASE
    """Without progress for this long, the connections are stalled."""


class Watchdog:
    """The loop; `check` is its step."""

    def __init__(
        self,
        client: Client,
        intakes: Sequence[Intake],
        last_beat: Callable[[], float],
        *,
        tuning: WatchdogTuning = WatchdogTuning(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`last_beat` and `clock` return monotonic seconds: of the last heartbeat that Redis accepted, and
        now."""
        self._clock = clock
        self._client = client
        self._intakes = intakes
        self._last_beat = last_beat
        self._tuning = tuning
        self._starving: dict[str, tuple[int, float]] = {}
        self._dropped = self._clock()
        self._checks = 0
        self.reconnections = 0
        """The number of times that all connections were dropped."""

    def ignore_queues(self) -> None:
        """Nothing is fetched from the queues any more."""
        self._intakes = ()
        self._starving.clear()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(self._tuning.interval)
            await self.check()

    async def check(self) -> None:
        """Drop stalled connections, at most once per `stall_threshold`."""
        if await follow_master(self._client):
            logger.warning("the Redis master moved; opening new connections")
            self._note()
            return
        if self._checks % self._tuning.checks_per_scan == 0:
            await self._scan_queues()
        self._checks += 1
        troubles = self._stalls()
        if troubles and self._clock() - self._dropped > self._tuning.stall_threshold:
            redis_trouble.log("Redis connections are stalled; opening new ones", "; ".join(troubles))
            await drop_connections(self._client)
            self._note()

    def troubles(self) -> list[str]:
        """Return one line for each stall, and for each queue that Redis has refused for `stall_threshold`."""
        now = self._clock()
        refused = ((intake.queue.name, intake.progress.refused) for intake in self._intakes)
        return [
            *self._stalls(),
            *(
                f"queue {name}: Redis refuses it for {now - refusal.since:.0f} s: {refusal.text}"
                for name, refusal in refused
                if refusal and now - refusal.since > self._tuning.stall_threshold
            ),
        ]

    def _stalls(self) -> list[str]:
        """Return one line for each lack of progress that new connections may end."""
        now = self._clock()
        found = []
        if (silent := now - self._last_beat()) > self._tuning.stall_threshold:
            found.append(f"no heartbeat for {silent:.0f} s")
        for intake in self._intakes:
            name = intake.queue.name
            since = self._starving[name][1] if name in self._starving else now
            silent = now - intake.progress.answered_at
            if silent > self._tuning.stall_threshold + intake.progress.longer_wait:
                found.append(f"queue {name}: no answer for {silent:.0f} s")
            elif now - since > self._tuning.stall_threshold:
                found.append(f"queue {name}: elements wait for {now - since:.0f} s, and none is fetched")
        return found

    def _note(self) -> None:
        self._dropped = self._clock()
        self._starving.clear()
        self.reconnections += 1

    async def _scan_queues(self) -> None:
        try:
            found = await have_elements(self._client, [intake.queue for intake in self._intakes])
        except StoreError:
            return
        for intake, waiting in zip(self._intakes, found, strict=True):
            name = intake.queue.name
            if waiting is None:
                continue
            intake.progress.note_scan(found=waiting)
            if not waiting or not intake.progress.waiting:
                self._starving.pop(name, None)
            elif name not in self._starving or self._starving[name][0] != intake.progress.fetched:
                self._starving[name] = (intake.progress.fetched, self._clock())
