"""Recovers the messages of dead workers. Any worker may do it, under a short lock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from relay.engine.batch_recovery import BatchRecovery
from relay.engine.failure_detector import FailureDetector
from relay.engine.parts import Parts
from relay.engine.repeats import redis_trouble, thinned
from relay.engine.router import Router
from relay.errors import StoreError
from relay.redis_client.client import Client, is_refusal
from relay.redis_client.replication import Replicas
from relay.settings.options import ProviderOptions
from relay.store.fleet import Fleet, Member, WorkerInfo
from relay.store.lane import Lane
from relay.store.queue import Queue

INTERVAL = 2.0
"""Seconds between two checks of the heartbeats."""

SWEEP_INTERVAL = 10.0
"""Seconds between two sweeps for messages of workers that are gone."""

RECENT = 30.0
"""Report a failure as trouble for this many seconds."""

REMEMBERED = 600.0
"""Seconds for which a worker that is gone is remembered."""

ResultT = TypeVar("ResultT")

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of one lane or queue, and its last time in monotonic seconds."""

    text: str
    at: float


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
    ) -> None:
        """`lanes` by provider and `routers` by queue are those of this worker's configuration."""
        self._client = client
        self._replicas = Replicas(client)
        self._prefix = prefix
        self._parts = parts or Parts()
        self._lanes = lanes
        self._routers = routers
        self._fleet = fleet
        self._info = info
        self._detector = FailureDetector(info)
        self._swept = time.monotonic()
        self._unregistered: set[str] = set()
        """Workers that the last sweep found unregistered."""
        self._failures: dict[str, _Failure] = {}

    def troubles(self) -> list[str]:
        """One line for each lane and queue whose recovery has failed within the last `RECENT` seconds."""
        since = time.monotonic() - RECENT
        return [f"recovery: {part}: {one.text}" for part, one in self._failures.items() if one.at > since]

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                await self.recover_dead()
                if time.monotonic() - self._swept > SWEEP_INTERVAL:
                    self._swept = time.monotonic()
                    await self.sweep()
            except StoreError as error:
                self._detector.clear()
                self._failures["fleet"] = _Failure(str(error), at=time.monotonic())
                redis_trouble.log("cannot check for dead workers", error)
            await asyncio.sleep(INTERVAL)

    async def recover_dead(self) -> int:
        """Recover the messages of dead workers. Returns the number of workers. Raises StoreError."""
        members = await self._fleet.members()
        names = self._detector.check(members, time.monotonic())
        dead = [member.info for member in members if member.info.worker in names]
        if not dead or not await self._fleet.lock_recovery(self._info.worker, INTERVAL):
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
        if not await self._fleet.lock_recovery(self._info.worker, INTERVAL):
            return 0
        gone = [*await self._fleet.gone(), *await self._find_unregistered()]
        found = 0
        workers = [member.info.worker for member in gone]
        for name in sorted({name for member in gone for name in self._queues_of(member.info)}):
            found += await self._contained(f"queue {name}", partial(self._sweep_queue, name, workers)) or 0
        for name in sorted({name for member in gone for name in self._lanes_of(member.info)}):
            found += await self._contained(f"lane {name}", partial(self._sweep_lane, name, workers)) or 0
        if found:
            logger.warning("recovered messages that reached dead workers late", number=found)
        for member in gone:
            if member.silent > REMEMBERED:
                await self._forget(member.info)
        return found

    async def _sweep_queue(self, name: str, workers: Collection[str]) -> int:
        found = 0
        for worker in set(await self._queue(name).holders()).intersection(workers):
            found += (await self._queue(name).depth([worker]))[1]
            await self._finish(name, worker)
        return found

    async def _sweep_lane(self, name: str, workers: Sequence[str]) -> int:
        lane, found = self._lane(name), 0
        for worker, messages in zip(workers, await lane.in_flight(workers), strict=True):
            if messages:
                found += await lane.recover(worker)
        return found

    async def _find_unregistered(self) -> list[Member]:
        """Workers that hold fetches of our queues, and were unregistered at this sweep and the one before."""
        holders: set[str] = set()
        for name in self._routers:
            holders.update(await self._contained(f"queue {name}", self._queue(name).holders) or ())
        known = [*await self._fleet.members(), *await self._fleet.gone()]
        before = self._unregistered
        self._unregistered = holders.difference(member.info.worker for member in known)
        return [
            Member(msgspec.structs.replace(self._info, worker=worker), 0.0, 0.0)
            for worker in self._unregistered & before
        ]

    async def _recover(self, info: WorkerInfo) -> bool:
        """Returns False if a part of it must wait for another worker, or cannot be recovered now."""
        worker, is_done = info.worker, True
        recovered: dict[str, int] = {}
        for name in self._queues_of(info):
            finished = await self._contained(f"queue {name} of {worker}", partial(self._finish, name, worker))
            if finished is False:
                return False
            is_done = is_done and finished is not None
        for name in self._lanes_of(info):
            messages = await self._contained(
                f"lane {name} of {worker}", partial(self._lane(name).recover, worker)
            )
            is_done = is_done and messages is not None
            if messages:
                recovered[name] = messages
        if is_done:
            await self._fleet.leave(worker)
        if is_done or recovered:
            # All of its lanes, because no other worker may know when delayed messages in them are due.
            await self._fleet.wake(self._lanes_of(info))
            logger.warning("recovered the messages of a dead worker", worker=worker, messages=recovered)
        return is_done

    async def _finish(self, name: str, worker: str) -> bool:
        """Enqueue the elements that a worker had fetched. Returns False if they must wait for others."""
        router = self._routers.get(name)
        if router is None:
            # Our file no longer names the queue; that of another worker may.
            await self._queue(name, worker).requeue()
            return True
        members = await self._fleet.members()
        dead = self._detector.check(members, time.monotonic())
        # A recoverer that died on this host counts at once: its successor may start before its lease ends.
        living = {member.info.worker for member in members} - dead
        queue, recoverer = self._queue(name, worker), self._info.worker
        return await BatchRecovery(queue, router, self._lanes, self._replicas, recoverer).recover(living)

    def _queue(self, name: str, worker: str = "") -> Queue:
        return Queue(self._client, self._prefix, name, worker or self._info.worker)

    async def _forget(self, info: WorkerInfo) -> None:
        # Not as soon as it is recovered: if it was only frozen, it must not enqueue its fetch a second time.
        worker, queues = info.worker, self._queues_of(info)
        for name in self._lanes_of(info):
            forget = partial(self._lane(name).forget_worker, worker, queues)
            await self._contained(f"lane {name}", forget)
        await self._fleet.forget(info.worker)

    def _queues_of(self, info: WorkerInfo) -> Sequence[str]:
        """The worker's queues; ours if its `WorkerInfo` is unreadable."""
        return info.queues or tuple(self._routers)

    def _lanes_of(self, info: WorkerInfo) -> Sequence[str]:
        return info.lanes or tuple(self._lanes)

    async def _contained(self, part: str, step: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """Return the result of a step for one queue or lane, or None if it fails: the others continue.

        Raises StoreError if Redis itself fails.
        """
        try:
            return await self._parts.attempt(f"recovery of {part}", step)
        except StoreError as error:
            if not is_refusal(error):
                raise
            self._note(part, str(error))
            return None

    def _note(self, part: str, text: str) -> None:
        now = time.monotonic()
        self._failures = {name: one for name, one in self._failures.items() if now - one.at < 2 * RECENT}
        self._failures[part] = _Failure(text, at=now)
        thinned.log("warning", "cannot recover", part, text, part=part)

    def _lane(self, name: str) -> Lane:
        # A lane that our file no longer names keeps its messages in their order.
        return self._lanes.get(name) or Lane(
            self._client, self._prefix, name, ProviderOptions(type=""), self._info.worker
        )
