"""The workers of a fleet: heartbeats, published data, the recovery lock and wake-up calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.exceptions import ReadOnlyError

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.redis_client.connect import drop_connections
from relay.redis_client.topology import is_cluster
from relay.store import drain, reload
from relay.store.deployment import Deployment
from relay.store.drain import DrainOrder
from relay.store.keys import FleetKeys
from relay.store.scripting import script
from relay.store.vitals import Duty, Vitals

LEASE = 10.0
"""Seconds without a heartbeat after which a worker counts as dead."""

PING_TIMEOUT = 5.0
"""Seconds without a wake-up call after which a ping is sent, and then the longest wait for its answer."""

LINGER = 0.05
"""Seconds to collect further wake-up calls after one."""

MOST_CALLS = 200
"""The most wake-up calls that are read at a time."""

LONGEST_NAME = 64
"""The most characters of a provider's name."""


class WorkerInfo(msgspec.Struct, frozen=True):
    """Published by each worker. `host_id` names the kernel and process namespace in which `pid` is valid;
    `started` is in Unix seconds; `settings` is the digest of its configuration; `left` is set when it has
    released all messages and ended normally, or when an operator has dismissed it."""

    worker: str
    host: str
    host_id: str
    pid: int
    version: str
    started: float
    lanes: tuple[str, ...] = ()
    """Empty: unknown. So are the queues: every worker has at least one of each."""
    queues: tuple[str, ...] = ()
    settings: str = ""
    deployment: Deployment = Deployment()
    left: bool = False
    vitals: Vitals | None = None
    """None: a version that does not publish them, or a worker that has just started."""


@dataclass(frozen=True, slots=True)
class Member:
    """A worker and its last heartbeat, by Redis's clock: `silent` is its age in seconds, `beat` its time in
    milliseconds. That clock may be changed or may stop, so only a new `beat` proves that a worker is
    alive."""

    info: WorkerInfo
    silent: float
    beat: float

    @property
    def is_alive(self) -> bool:
        return self.silent <= LEASE

    @property
    def duty(self) -> Duty:
        """Whether it takes messages, according to its last heartbeat."""
        return self.info.vitals.duty if self.info.vitals else Duty.SERVING


class Fleet:
    """The registry that all workers share. Every method raises StoreError."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.keys = FleetKeys(prefix)
        self.reload_request: str | None = None
        """The request to reload that the last heartbeat has read; empty if there is none."""
        self.drain_order: DrainOrder | None = None
        """The order to take no messages that the last heartbeat has read."""
        self._client = client

    async def heartbeat(self, info: WorkerInfo) -> bool:
        """Record that a worker is alive. Returns False if it was unknown: it is new, or was recovered.

        If the server has become a replica, all connections are dropped: the host name in the URL may lead to
        the new master by now, while the old one still answers.
        """
        try:
            known, request, order = await script("heartbeat").run(
                self._client,
                (
                    self.keys.workers,
                    self.keys.profiles,
                    self.keys.gone,
                    self.keys.scratch,
                    self.keys.reload,
                    self.keys.drains,
                ),
                info.worker,
                msgspec.json.encode(info),
            )
        except StoreError as error:
            if isinstance(error.__cause__, ReadOnlyError):
                await drop_connections(self._client)
            raise
        self.reload_request = reload.decode(request)
        self.drain_order = drain.decode(order)
        return bool(known)

    async def leave(self, worker: str) -> None:
        """Remove a worker that has released its messages, or whose messages were recovered.

        Its `WorkerInfo` stays until `forget`, so that others can check for messages that reached it late.
        """
        keys = (self.keys.workers, self.keys.gone, self.keys.drains)
        await script("leave").run(self._client, keys, worker)

    async def forget(self, worker: str) -> None:
        """Delete the data of a worker that has left."""
        try:
            await self._client.zrem(self.keys.gone, worker)
            await self._client.hdel(self.keys.profiles, worker)
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error

    async def dismiss(self, member: Member, *, is_gone: bool) -> bool:
        """Hide a worker that holds nothing from operators; False if it has come back meanwhile.

        `is_gone`: it has left, or was recovered.
        """
        beat = "" if is_gone else repr(member.beat)
        hidden = msgspec.json.encode(msgspec.structs.replace(member.info, left=True))
        keys = (self.keys.workers, self.keys.profiles, self.keys.gone)
        return bool(await script("dismiss").run(self._client, keys, member.info.worker, beat, hidden))

    async def members(self) -> list[Member]:
        """All registered workers, including dead ones that are not recovered yet."""
        return await self._listed(self.keys.workers)

    async def gone(self) -> list[Member]:
        """The workers that have left and are not forgotten; `silent` counts from then on."""
        return await self._listed(self.keys.gone)

    async def _listed(self, key: str) -> list[Member]:
        try:
            beats: Any = await self._client.zrange(key, 0, -1, withscores=True)
            if not beats:
                return []
            profiles = await execute(
                self._client, "HMGET", self.keys.profiles, *(worker for worker, _ in beats)
            )
            now = await self.now()
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error
        return [
            Member(_worker_info(worker.decode(), encoded, beat), max(0.0, now - beat / 1000), beat)
            for (worker, beat), encoded in zip(beats, profiles, strict=True)
            if worker.isascii()
        ]

    async def now(self) -> float:
        """The time by Redis's clock, in Unix seconds."""
        try:
            reply = (
                await self._client.execute_command("TIME", target_nodes="random")
                if is_cluster(self._client)
                else await execute(self._client, "TIME")
            )
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error
        if isinstance(reply, dict):  # a cluster replies by node
            reply = next(iter(reply.values()))
        seconds, micros = reply
        return int(seconds) + int(micros) / 1_000_000

    async def lock_recovery(self, worker: str, seconds: float) -> bool:
        """Return whether this worker alone may recover dead workers for the next `seconds`."""
        reply: int = await script("lock").run(
            self._client, (self.keys.recovery_lock,), worker, round(seconds * 1000)
        )
        return bool(reply)

    async def wake(self, lanes: Sequence[str]) -> None:
        """Notify all workers that these lanes have messages to claim now."""
        try:
            for lane in lanes:
                await self._client.execute_command("PUBLISH", self.keys.wake, lane)
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error

    async def subscribe(self) -> AsyncIterator[frozenset[str] | None]:
        """Yield the lanes of `wake` calls. Any program may publish other names.

        The first item is None: calls before it are lost. A single call is yielded immediately. Further calls
        within `LINGER` seconds are yielded together, so that a flood costs little. An idle connection is
        checked by a ping.
        """
        try:
            async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(self.keys.wake)
                yield None
                pinged = False
                while True:
                    call = await pubsub.get_message(timeout=PING_TIMEOUT)
                    if call is None and pinged:
                        raise StoreError(f"no answer to a ping for {PING_TIMEOUT:g} s")
                    pinged = call is None
                    if pinged:
                        await pubsub.ping()
                        continue
                    lanes = _lane_of(call)
                    for _ in range(MOST_CALLS):
                        if (call := await pubsub.get_message(timeout=0)) is None:
                            break
                        lanes |= _lane_of(call)
                    if lanes:
                        yield lanes
                    await asyncio.sleep(LINGER)
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error


def _lane_of(call: Mapping[str, Any]) -> frozenset[str]:
    """The lane that a message of the channel names; empty if its text cannot be a lane's name."""
    data = call["data"]
    if call["type"] != "message" or len(data) > LONGEST_NAME or not data.isascii():
        return frozenset()
    return frozenset((data.decode(),))


def _worker_info(worker: str, encoded: bytes | None, beat: float) -> WorkerInfo:
    """Decode the entry of a worker. If it is unreadable, only name and last heartbeat are set."""
    try:
        info = msgspec.json.decode(encoded or b"", type=WorkerInfo)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return WorkerInfo(worker, host="", host_id="", pid=0, version="", started=beat / 1000)
    return msgspec.structs.replace(info, worker=worker)
