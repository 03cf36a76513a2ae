"""Joins a worker to its fleet, and ends its membership."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from relay import tasks
from relay.engine.heartbeat import Heartbeat
from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.redis_client.client import AUTH_ERRORS, Client
from relay.store import lane_settings, layout, registry
from relay.store.fleet import LEASE, Fleet, WorkerInfo
from relay.store.lane_settings import NOTHING, Published
from relay.store.neighbours import foreign_workers

JOIN_INTERVAL = 1.0
"""Seconds between two attempts to join the fleet."""

logger = structlog.get_logger()


class Membership:
    """The membership of one worker."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        fleet: Fleet,
        heartbeat: Heartbeat,
        on_turn: Callable[[], None] = lambda: None,
        *,
        published: Published = NOTHING,
    ) -> None:
        """`on_turn` is called before each attempt to join. `published` are the settings of our lanes."""
        self._client = client
        self._prefix = prefix
        self._fleet = fleet
        self._heartbeat = heartbeat
        self._on_turn = on_turn
        self._published = published
        self.joined = False
        """Whether Redis has accepted the first heartbeat."""

    async def join(self, stop: asyncio.Event) -> bool:
        """Send the first heartbeat, and wait for Redis if necessary.

        Returns False if `stop` is set before. Raises StoreError if Redis refuses the credentials, UsageError
        if a newer version has written one of our lanes.
        """
        while not stop.is_set():
            self._on_turn()
            try:
                joined = await tasks.run_until(stop, self._enter())
            except StoreError as error:
                if isinstance(error.__cause__, AUTH_ERRORS):
                    raise
                redis_trouble.log("waiting for Redis", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(JOIN_INTERVAL):
                        await stop.wait()
            else:
                if joined is None:
                    return False
                self.joined = True
                await self._warn_of_other_settings()
                await self._register()
                await self._publish_settings()
                return True
        return False

    async def _enter(self) -> bool:
        # The layouts come first, so that a worker with an old version never becomes a member.
        await layout.mark(self._client, self._prefix, self._info.lanes)
        return await self._fleet.heartbeat(self._heartbeat.present())

    async def leave(self) -> None:
        """End the membership of a worker that has released its messages. Raises StoreError."""
        # `left` marks a normal end, which is of no interest to operators.
        await self._fleet.heartbeat(msgspec.structs.replace(self._info, left=True))
        await self._fleet.leave(self._info.worker)
        await self._fleet.wake(self._info.lanes)

    @property
    def _info(self) -> WorkerInfo:
        return self._heartbeat.info

    async def _warn_of_other_settings(self) -> None:
        """Log once if other workers process messages of our queues with another configuration."""
        info = self._info
        for foreign in await foreign_workers(self._client, self._prefix, info.queues):
            logger.warning("another fleet reads the same queues", fleet=str(foreign))
        try:
            members = await self._fleet.members()
        except StoreError:
            return
        others = sorted(
            member.info.worker
            for member in members
            if member.silent <= LEASE and _has_other_settings(info, member.info)
        )
        if others:
            logger.warning(
                "other workers with this prefix use different settings",
                hint="reload them; `relay status` shows which",
                prefix=self._prefix,
                settings=info.settings,
                workers=others,
            )

    async def _register(self) -> None:
        """Write the names of our lanes and queues to Redis, so that `relay status` finds them later."""
        names = registry.Names(self._info.lanes, self._info.queues)
        try:
            await registry.register(self._client, self._prefix, names)
        except StoreError as error:
            logger.warning("cannot register the names of lanes and queues", error=str(error))

    async def _publish_settings(self) -> None:
        """Write the settings of our lanes to Redis, and delete those that no worker uses any more."""
        client, prefix = self._client, self._prefix
        try:
            await lane_settings.publish(client, prefix, self._info.settings, self._published)
            members = [*await self._fleet.members(), *await self._fleet.gone()]
            used = {member.info.settings for member in members}
            await lane_settings.forget_unused(
                client, prefix, used, (await registry.known(client, prefix)).lanes
            )
        except StoreError as error:
            logger.warning("cannot publish the settings of lanes", error=str(error))


def _has_other_settings(own: WorkerInfo, other: WorkerInfo) -> bool:
    if other.settings in ("", own.settings):
        return False
    # The other workers of a supervisor get the same configuration at the same time.
    supervisor = own.deployment.supervisor
    return not supervisor or other.deployment.supervisor != supervisor
