"""Recovers the messages of dead workers. Any worker may do it, under a short lock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from relay.engine.containment import Containment
from relay.engine.failure_detector import FailureDetector
from relay.engine.fetch_recovery import FetchRecovery
from relay.engine.holdings import Holdings
from relay.engine.parts import Parts
from relay.engine.repeats import redis_trouble
from relay.engine.router import Router
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.redis_client.replication import Replicas
from relay.store.fleet import Fleet, Member, WorkerInfo
from relay.store.lane import Lane
from relay.store.queue import Queue

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RecoveryTuning:
    """Durations are in seconds."""

    interval: float = 2.0
    """Wait between two checks of the heartbeats."""
    gap: float = 5.0
    """See `FailureDetector`."""
    sweep_interval: float = 10.0
    """Wait between two sweeps for messages of workers that are gone."""
    remembered: float = 600.0
    """Remember a worker that is gone for this long."""


class Recovery:
    """The loop; `recover_dead` and `sweep` are its steps."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        fleet: Fleet,
        info: WorkerInfo,
        lanes: Mapping[str, Lane],
        routers: Mapping[str, Router],
        parts: Parts | None = None,
        *,
        tuning: RecoveryTuning = RecoveryTuning(),
    ) -> None:
        """`lanes` by provider and `routers` by queue are those of this worker's configuration."""
        self._fleet = fleet
        self._info = info
        self._holdings = Holdings(client, prefix, info.worker, lanes, routers)
        self._replicas = Replicas(client)
        self._containment = Containment(parts or Parts())
        self._detector = FailureDetector(info, tuning.gap)
        self._tuning = tuning

        # Private state of the loop.
        self._swept = time.monotonic()
        self._unregistered: set[str] = set()
        """Workers that the last sweep found unregistered."""

    def troubles(self) -> list[str]:
        """Return one line for each queue and lane whose recovery has failed recently."""
        return self._containment.troubles()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                await self.recover_dead()
                if time.monotonic() - self._swept > self._tuning.sweep_interval:
                    self._swept = time.monotonic()
                    await self.sweep()
            except StoreError as error:
                self._detector.clear()
                self._containment.note("fleet", error)
                redis_trouble.log("cannot check for dead workers", error)
            await asyncio.sleep(self._tuning.interval)

    async def recover_dead(self) -> int:
        """Recover the messages of dead workers. Returns the number of workers. Raises StoreError."""
        members = await self._fleet.members()
        names = self._detector.check(members, time.monotonic())
        dead = [member.info for member in members if member.info.worker in names]
        if not dead or not await self._fleet.lock_recovery(self._info.worker, self._tuning.interval):
            return 0
        left = dead
        # A worker may have to wait for earlier fetches of another one, dead or alive.
        while left != (left := [info for info in left if not await self._recover(info)]):
            pass
        return len(dead) - len(left)

    async def sweep(self) -> int:
        """Recover elements and messages that reached workers after they had left. Returns their number.

        A worker that was frozen may fetch and claim before it learns that it was recovered. A worker that
        died while a failover undid its first heartbeat is unregistered. Raises StoreError.
        """
        if not await self._fleet.lock_recovery(self._info.worker, self._tuning.interval):
            return 0
        gone = [*await self._fleet.gone(), *await self._find_unregistered()]
        found, infos = 0, [member.info for member in gone]
        workers = [info.worker for info in infos]
        attempt = self._containment.attempt
        for name in self._holdings.queues_of(*infos):
            found += await attempt(f"queue {name}", partial(self._sweep_queue, name, workers)) or 0
        for name in self._holdings.lanes_of(*infos):
            found += await attempt(f"lane {name}", partial(self._sweep_lane, name, workers)) or 0
        if found:
            logger.warning("recovered messages that reached dead workers late", number=found)
        for member in gone:
            if member.silent > self._tuning.remembered:
                await self._forget(member.info)
        return found

    async def _find_unregistered(self) -> list[Member]:
        """Workers that hold fetches of our queues, and were unregistered at this sweep and the one before."""
        holders: set[str] = set()
        for name, found in (await self._holdings.holders()).items():
            if found is not None:
                holders.update(found)
            else:  # again, for its error
                find = self._holdings.queue(name).holders
                holders.update(await self._containment.attempt(f"queue {name}", find) or ())
        known = [*await self._fleet.members(), *await self._fleet.gone()]
        before = self._unregistered
        self._unregistered = holders.difference(member.info.worker for member in known)
        return [
            Member(msgspec.structs.replace(self._info, worker=worker), 0.0, 0.0)
            for worker in self._unregistered & before
        ]

    async def _sweep_queue(self, name: str, workers: Collection[str]) -> int:
        queue, found = self._holdings.queue(name), 0
        for worker in set(await queue.holders()).intersection(workers):
            before = (await queue.depth([worker]))[1]
            await self._recover_queue(name, worker)
            found += before - (await queue.depth([worker]))[1]
        return found

    async def _sweep_lane(self, name: str, workers: Sequence[str]) -> int:
        lane, found = self._holdings.lane(name), 0
        for worker, messages in zip(workers, await lane.in_flight(workers), strict=True):
            if messages:
                found += await lane.recover(worker)
        return found

    async def _recover(self, info: WorkerInfo) -> bool:
        """Returns False if a part of it must wait for another worker, or cannot be recovered now."""
        worker, is_done = info.worker, True
        attempt, lanes = self._containment.attempt, self._holdings.lanes_of(info)
        recovered: dict[str, int] = {}
        for name in self._holdings.queues_of(info):
            finished = await attempt(f"queue {name} of {worker}", partial(self._recover_queue, name, worker))
            if finished is False:
                return False
            is_done = is_done and finished is not None
        for name in lanes:
            recover = partial(self._holdings.lane(name).recover, worker)
            messages = await attempt(f"lane {name} of {worker}", recover)
            is_done = is_done and messages is not None
            if messages:
                recovered[name] = messages
        if is_done:
            await self._fleet.leave(worker)
        if is_done or recovered:
            # All of its lanes, because no other worker may know when delayed messages in them are due.
            await self._fleet.wake(lanes)
            logger.warning("recovered the messages of a dead worker", worker=worker, messages=recovered)
        return is_done

    async def _recover_queue(self, name: str, worker: str) -> bool:
        """Enqueue the elements that a worker had fetched. Returns False if they must wait for others."""
        holdings, queue = self._holdings, self._holdings.queue(name, worker)
        members = await self._fleet.members()
        # A dead recoverer of this host counts immediately: its successor may start before its lease ends.
        dead = self._detector.check(members, time.monotonic())
        living = {member.info.worker: member.info for member in members if member.info.worker not in dead}
        router = holdings.routers.get(name)
        if router is None:
            await self._give_back(queue, living)
            return True
        recovery = FetchRecovery(queue, router, holdings.lanes, self._replicas, self._info.worker)
        return await recovery.recover(living.keys())

    async def _give_back(self, queue: Queue, living: Mapping[str, WorkerInfo]) -> None:
        """Return what dead workers had fetched to a queue that our file does not name.

        A living worker that has the queue finds these fetches in its next sweep, and may hold later ones.
        """
        if any(queue.name in info.queues for info in living.values()):
            return
        # The newest first, because each goes to the head of the queue.
        for holder in reversed(await queue.holders()):
            if holder not in living:
                await queue.requeue(holder)

    async def _forget(self, info: WorkerInfo) -> None:
        # Not as soon as it is recovered: if it was only frozen, it must not enqueue its fetch a second time.
        queues = self._holdings.queues_of(info)
        for name in self._holdings.lanes_of(info):
            forget = partial(self._holdings.lane(name).forget_worker, info.worker, queues)
            await self._containment.attempt(f"lane {name}", forget)
        for name in queues:
            # A recoverer that came too late and died has left this behind.
            end = self._holdings.queue(name, info.worker).end_recovery
            await self._containment.attempt(f"queue {name}", end)
        await self._fleet.forget(info.worker)
