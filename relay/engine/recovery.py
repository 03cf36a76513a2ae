"""Gives what dead workers held back to where it came from. Any worker does it, under a short lock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from relay.engine.batch_recovery import BatchRecovery
from relay.engine.parts import Parts
from relay.engine.repeats import redis_trouble, thinned
from relay.engine.router import Router
from relay.errors import StoreError
from relay.redis_client.client import Client, is_refusal
from relay.redis_client.replication import Replicas
from relay.settings.options import ProviderOptions
from relay.store.fleet import LEASE, Fleet, Member, WorkerInfo
from relay.store.lane import Lane
from relay.store.queue import Queue

INTERVAL = 2.0
"""Seconds between two looks at the heartbeats."""

GAP = 5.0
"""Seconds between two looks after which what was seen before says nothing: Redis was away, or we were."""

SWEEP_INTERVAL = 10.0
"""Seconds between two looks at what workers hold that are gone."""

RECENT = 30.0
"""Seconds for which a failure of a part counts as trouble."""

REMEMBERED = 600.0
"""Seconds for which a worker that is gone is remembered."""

ResultT = TypeVar("ResultT")

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of one part, and when it last happened (monotonic seconds)."""

    text: str
    at: float


class Silences:
    """How long each worker has been silent, by our own clock, while Redis was there to hear it.

    Redis's clock may be set, and after an outage every heartbeat is old: neither kills a worker.
    """

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, float]] = {}
        self._looked = 0.0

    def look(self, members: Iterable[Member], now: float) -> dict[str, float]:
        """The seconds of silence of each worker. `now` is in monotonic seconds."""
        if now - self._looked > GAP:
            self._since.clear()
        self._looked = now
        since = {}
        for member in members:
            worker = member.info.worker
            known = self._since.get(worker)
            since[worker] = known if known and known[0] == member.beat else (member.beat, now)
        self._since = since
        return {worker: now - first for worker, (_, first) in since.items()}

    def clear(self) -> None:
        """Redis was in trouble: what was seen before says nothing."""
        self._since.clear()


class Recovery:
    """The loop; `bury_dead` and `sweep` are its steps."""

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
        self._silences = Silences()
        self._swept = time.monotonic()
        self._unknown: set[str] = set()
        self._failures: dict[str, _Failure] = {}

    def troubles(self) -> list[str]:
        """One line for each part that recovery has failed on within the last `RECENT`."""
        since = time.monotonic() - RECENT
        return [f"recovery: {part}: {one.text}" for part, one in self._failures.items() if one.at > since]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.bury_dead()
                if time.monotonic() - self._swept > SWEEP_INTERVAL:
                    self._swept = time.monotonic()
                    await self.sweep()
            except StoreError as error:
                self._silences.clear()
                self._failures["fleet"] = _Failure(str(error), at=time.monotonic())
                redis_trouble.log("cannot check for dead workers", error)
            await asyncio.sleep(INTERVAL)

    async def bury_dead(self) -> int:
        """Recover all that dead workers held; how many workers there were. Raises StoreError."""
        members = await self._fleet.members()
        silences = self._silences.look(members, time.monotonic())
        dead = [member.info for member in members if self._is_dead(member.info, silences)]
        if not dead or not await self._fleet.lock_recovery(self._info.worker, INTERVAL):
            return 0
        left = dead
        # One may have to wait for what another one had taken earlier, dead or alive.
        while left != (left := [info for info in left if not await self._bury(info)]):
            pass
        return len(dead) - len(left)

    async def sweep(self) -> int:
        """Give back what came to workers after they had left; how many elements and messages.

        One that was frozen may take and claim before it hears that it was buried. One that died while a
        failover undid its first beat is known to nobody. Raises StoreError.
        """
        if not await self._fleet.lock_recovery(self._info.worker, INTERVAL):
            return 0
        gone = [*await self._fleet.gone(), *await self._strangers()]
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

    async def _strangers(self) -> list[Member]:
        """Workers that hold batches of our queues, and that the fleet has not known since the last look."""
        holders: set[str] = set()
        for name in self._routers:
            holders.update(await self._contained(f"queue {name}", self._queue(name).holders) or ())
        known = [*await self._fleet.members(), *await self._fleet.gone()]
        unknown = holders.difference(member.info.worker for member in known)
        strangers, self._unknown = unknown & self._unknown, unknown
        return [Member(msgspec.structs.replace(self._info, worker=worker), 0.0, 0.0) for worker in strangers]

    def _is_dead(self, info: WorkerInfo, silences: Mapping[str, float]) -> bool:
        if info.worker == self._info.worker:
            return False
        if silences[info.worker] > LEASE:
            return True
        # Beside us on the same kernel we need not wait for a lease to run out.
        return bool(info.host_id) and info.host_id == self._info.host_id and not _runs(info.pid)

    async def _bury(self, info: WorkerInfo) -> bool:
        """Returns False if something of it has to wait for another worker, or cannot be recovered now."""
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
            # All of its lanes: no other worker may know about messages in them that are due later.
            await self._fleet.wake(self._lanes_of(info))
            logger.warning("recovered the messages of a dead worker", worker=worker, messages=recovered)
        return is_done

    async def _finish(self, name: str, worker: str) -> bool:
        """Put what a worker had taken from a queue into the lanes; False where it has to wait for others."""
        router = self._routers.get(name)
        if router is None:
            # This file no longer names the queue: others' do, or will.
            await self._queue(name, worker).requeue()
            return True
        members = await self._fleet.members()
        silences = self._silences.look(members, time.monotonic())
        # A recoverer that died beside us counts at once: its successor may start long before its lease ends.
        living = [member.info.worker for member in members if not self._is_dead(member.info, silences)]
        queue, recoverer = self._queue(name, worker), self._info.worker
        return await BatchRecovery(queue, router, self._lanes, self._replicas, recoverer).recover(living)

    def _queue(self, name: str, worker: str = "") -> Queue:
        return Queue(self._client, self._prefix, name, worker or self._info.worker)

    async def _forget(self, info: WorkerInfo) -> None:
        # Not as soon as it is recovered: if it wakes up it must not enqueue a fetch for a second time.
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
        """The result of a step for one queue or lane; None if it fails, so that the others get their turn.

        Raises StoreError for trouble with Redis itself.
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
        # A lane that this file no longer names keeps what it has, in the order it came.
        return self._lanes.get(name) or Lane(
            self._client, self._prefix, name, ProviderOptions(type=""), self._info.worker
        )


def host_id() -> str:
    """A name for this kernel and process namespace: within it, a pid means the same process."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts) if len(parts) == 2 else ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
