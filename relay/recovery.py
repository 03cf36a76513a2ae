"""Gives what dead workers held back to where it came from. Any worker does it, under a short lock."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import structlog

from relay.errors import StoreError
from relay.intake import Router, batch_mark, finish_batch
from relay.settings.provider import ProviderOptions
from relay.store.fleet import LEASE, Fleet, Member, Profile
from relay.store.lane import Lane
from relay.store.queue import Queue
from relay.store.scripting import Client

INTERVAL = 2.0
"""Seconds between two looks at the heartbeats."""

logger = structlog.get_logger()


class Recovery:
    """The loop; `bury_dead` is its step."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        fleet: Fleet,
        profile: Profile,
        lanes: Mapping[str, Lane],
        routers: Mapping[str, Router],
    ) -> None:
        """`lanes` by provider and `routers` by queue are those of this worker's configuration."""
        self._client = client
        self._prefix = prefix
        self._lanes = lanes
        self._routers = routers
        self._fleet = fleet
        self._profile = profile

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.bury_dead()
            except StoreError as error:
                logger.warning("cannot look for dead workers", error=str(error))
            await asyncio.sleep(INTERVAL)

    async def bury_dead(self) -> int:
        """Recover all that dead workers held; how many workers there were. Raises StoreError."""
        dead = [member for member in await self._fleet.members() if self._is_dead(member)]
        if not dead or not await self._fleet.lock_recovery(self._profile.worker, INTERVAL):
            return 0
        for member in dead:
            await self._bury(member.profile)
        return len(dead)

    def _is_dead(self, member: Member) -> bool:
        profile = member.profile
        if profile.worker == self._profile.worker:
            return False
        if member.silent > LEASE:
            return True
        # Beside us on the same kernel we need not wait for a lease to run out.
        return bool(profile.machine) and profile.machine == self._profile.machine and not _runs(profile.pid)

    async def _bury(self, profile: Profile) -> None:
        recovered: dict[str, int] = {}
        for name in profile.queues:
            queue = Queue(self._client, self._prefix, name, profile.worker)
            router = self._routers.get(name)
            if router is None:
                await queue.give_back()
            else:
                await finish_batch(queue, router, self._lanes, profile.worker)
        marks = [batch_mark(profile.worker, queue) for queue in profile.queues]
        for name in profile.lanes:
            # A lane that this file no longer names keeps what it has, in the order it came.
            lane = self._lanes.get(name) or Lane(
                self._client, self._prefix, name, ProviderOptions(type=""), self._profile.worker
            )
            if messages := await lane.recover(profile.worker):
                recovered[name] = messages
            await lane.forget_marks(marks)
        await self._fleet.leave(profile.worker)
        await self._fleet.wake(list(recovered))
        logger.warning("recovered what a dead worker held", worker=profile.worker, messages=recovered)


def machine() -> str:
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
