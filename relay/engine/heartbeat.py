"""Publishes every few seconds that this worker is alive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.store.deployment import Deployment
from relay.store.drain import DrainOrder
from relay.store.fleet import LEASE, Fleet, WorkerInfo
from relay.store.vitals import Vitals

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HeartbeatTuning:
    """Durations are in seconds."""

    interval: float = 2.0
    """Wait between two heartbeats: several fit into a lease."""
    lease: float = LEASE
    """Without a heartbeat for this long, other workers may recover the messages of this one."""


class Heartbeat:
    """The loop; `beat` is its step."""

    def __init__(
        self,
        fleet: Fleet,
        info: WorkerInfo,
        on_turn: Callable[[], None] = lambda: None,
        *,
        measure: Callable[[], Vitals | None] = lambda: None,
        on_drain_order: Callable[[DrainOrder | None], None] = lambda order: None,
        tuning: HeartbeatTuning = HeartbeatTuning(),
    ) -> None:
        """`on_turn` is called before each heartbeat, even if Redis is unreachable. `measure` returns the
        state to publish. `on_drain_order` gets the order to take no messages, or None, with each reply."""
        self._on_turn = on_turn
        self._measure = measure
        self._on_drain_order = on_drain_order
        self._interval, self._lease = tuning.interval, tuning.lease
        self._fleet = fleet
        self.last = time.monotonic()
        """The time of the last heartbeat that Redis accepted, in monotonic seconds."""
        self._held_since = self.last
        self.info = info
        """Published by each heartbeat, with the vitals."""

    def present(self) -> WorkerInfo:
        """Return the state to publish now."""
        return msgspec.structs.replace(self.info, vitals=self._measure())

    def redeploy(self, deployment: Deployment) -> None:
        """Publish a change of the deployment with the next heartbeat."""
        self.info = msgspec.structs.replace(self.info, deployment=deployment)

    def lease_valid_since(self, since: float) -> bool:
        """Return whether no other worker can have declared this one dead since then (in monotonic
        seconds)."""
        return since >= self._held_since and time.monotonic() - self.last < self._lease

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self._on_turn()
            try:
                # A later reply would prove nothing.
                async with asyncio.timeout(self._lease):
                    await self.beat()
            except TimeoutError:
                redis_trouble.log("no heartbeat", f"no answer within {self._lease:g} s")
            except StoreError as error:
                redis_trouble.log("no heartbeat", error)

    async def beat(self) -> None:
        """Publish once that this worker is alive. Raises StoreError."""
        # The reply may be delayed for longer than a lease, so the time of the request counts.
        sent = time.monotonic()
        known = await self._fleet.heartbeat(self.present())
        self._on_drain_order(self._fleet.drain_order)
        if not known:
            logger.warning("this worker was declared dead; its messages went to other workers")
        if not known or sent - self.last >= self._lease:
            # Messages claimed before are no longer ours, however fresh this beat is.
            self._held_since = time.monotonic()
        self.last = sent
        redis_trouble.answered(sent)
