"""Who is alive: heartbeats, the profiles of workers, the lock of recovery, wake-up calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis

from relay.errors import StoreError
from relay.store.keys import FleetKeys
from relay.store.scripting import TROUBLE, Client, describe, script

LEASE = 10.0
"""Seconds without a heartbeat after which a worker counts as dead."""


class Profile(msgspec.Struct, frozen=True):
    """What a worker says about itself. `machine` names the kernel and process namespace that `pid`
    is valid in; `started` is in Unix seconds."""

    worker: str
    host: str
    machine: str
    pid: int
    version: str
    started: float
    lanes: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A worker and the age of its last heartbeat, in seconds by Redis's clock."""

    profile: Profile
    silent: float


class Fleet:
    """The registry that all workers share. Every method raises StoreError."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.keys = FleetKeys(prefix)
        self._client = client

    async def beat(self, profile: Profile) -> bool:
        """Say that this worker lives. False: it was unknown, because it is new or was buried."""
        reply: int = await script("beat").run(
            self._client,
            (self.keys.workers, self.keys.profiles),
            profile.worker,
            msgspec.json.encode(profile),
        )
        return bool(reply)

    async def leave(self, worker: str) -> None:
        """Strike a worker off: it has handed back all that it held, or somebody did it for it."""
        try:
            await self._client.zrem(self.keys.workers, worker)
            await self._client.hdel(self.keys.profiles, worker)
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def members(self) -> list[Member]:
        """All workers that are registered, dead ones that nobody has buried yet included."""
        try:
            beats: Any = await self._client.zrange(self.keys.workers, 0, -1, withscores=True)
            profiles: Any = await self._client.hgetall(self.keys.profiles)
            now = await self.now()
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
        return [
            Member(msgspec.json.decode(profiles[worker], type=Profile), max(0.0, now - beat / 1000))
            for worker, beat in beats
            if worker in profiles
        ]

    async def now(self) -> float:
        """Redis's clock, in Unix seconds."""
        try:
            reply = (
                await self._client.execute_command("TIME", target_nodes="random")
                if not isinstance(self._client, Redis)
                else await self._client.time()
            )
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
        if isinstance(reply, dict):  # a cluster answers by node
            reply = next(iter(reply.values()))
        seconds, micros = reply
        return int(seconds) + int(micros) / 1_000_000

    async def lock_recovery(self, worker: str, seconds: float) -> bool:
        """Whether this worker may bury the dead for the next `seconds`."""
        try:
            return bool(
                await self._client.set(self.keys.recovery_lock, worker, nx=True, px=round(seconds * 1000))
            )
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def wake(self, lanes: Sequence[str]) -> None:
        """Tell all workers that these lanes have something to do at once."""
        try:
            for lane in lanes:
                await self._client.execute_command("PUBLISH", self.keys.wake, lane)
        except TROUBLE as error:
            raise StoreError(describe(error)) from error

    async def calls(self) -> AsyncIterator[str]:
        """The lanes that `wake` names, as they are called."""
        try:
            async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(self.keys.wake)
                async for call in pubsub.listen():
                    yield call["data"].decode()
        except TROUBLE as error:
            raise StoreError(describe(error)) from error
