"""One process: builds the loops, starts them, and stops them without losing anything."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial

import structlog

from relay import __version__
from relay.courier import Courier
from relay.dispatch import Dispatcher
from relay.errors import StoreError
from relay.heartbeat import Heartbeat
from relay.http import Transport, open_transport
from relay.intake import Intake
from relay.provider import Provider
from relay.recovery import Recovery, machine
from relay.redis_provider import RedisProvider, keep_out
from relay.router import Router, limits
from relay.settings.models import Settings
from relay.settings.provider import ProviderOptions
from relay.store import registry
from relay.store.fleet import Fleet, Profile
from relay.store.lane import Lane
from relay.store.outbox import Outboxes
from relay.store.queue import Queue
from relay.store.replication import Replicas
from relay.store.scripting import FORBIDDEN, Client
from relay.store.transactions import linked
from relay.watchdog import Watchdog

EMPTY_POLL = 0.1
"""Seconds between two looks whether all is empty, for `--until-empty`."""

LISTEN_PAUSE = 1.0
"""Seconds before the wake-up calls are listened to again."""

JOIN_INTERVAL = 1.0
"""Seconds between two tries to join the fleet."""

logger = structlog.get_logger()


class Worker:
    """All loops of one process over one Redis client."""

    def __init__(
        self, settings: Settings, adapters: Mapping[str, type[Provider[ProviderOptions]]], client: Client
    ) -> None:
        self.settings = settings
        self.client = client
        prefix = settings.redis.prefix
        self.fleet = Fleet(client, prefix)
        self.profile = _profile(settings)
        name = self.profile.worker
        self._heartbeat = Heartbeat(self.fleet, self.profile)
        self._replicas = Replicas(client)
        self.providers = {
            provider: adapters[options.type](provider, options)
            for provider, options in settings.providers.items()
        }
        keep_out(self.providers.values(), settings.own_names)
        self.lanes = {
            provider: Lane(client, prefix, provider, options, name)
            for provider, options in settings.providers.items()
        }
        outboxes = Outboxes(client, prefix, settings.providers)
        self._courier = Courier(self.fleet.keys.feedback, outboxes, self._replicas)
        self.dispatchers = {
            provider: Dispatcher(
                self.lanes[provider],
                adapter,
                on_letters=partial(self._courier.call, provider),
                holds_lease=self._heartbeat.holds_lease,
            )
            for provider, adapter in self.providers.items()
        }
        self.intakes = [
            Intake(
                Queue(client, prefix, queue.name, name, limits(queue)),
                Router(queue, settings, self.providers),
                self.lanes,
                worker=name,
                replicas=self._replicas,
                on_arrival=self._on_arrival,
                on_ready=self._on_ready,
                on_letters=self._courier.call,
            )
            for queue in settings.queues
        ]
        routers = {intake.queue.name: intake.router for intake in self.intakes}
        self._recovery = Recovery(client, prefix, self.fleet, self.profile, self.lanes, routers)
        self._watchdog = Watchdog(client, self.intakes, lambda: self._heartbeat.last)
        self._shared: dict[str, int] = {}
        self._share_out = asyncio.Event()

    async def run(self, stop: asyncio.Event, *, until_empty: bool = False) -> None:
        """Work until `stop` is set, or until all is empty; then finish what is in flight.

        Waits for Redis, whatever its trouble. Raises StoreError where it will never let us in.
        """
        if not await self._join(stop):
            return
        await self._register()
        log = logger.bind(worker=self.profile.worker)
        async with AsyncExitStack() as stack:
            for adapter in self.providers.values():
                if isinstance(adapter, RedisProvider):
                    adapter.bind(await stack.enter_async_context(linked(adapter, self.client)))
                transport = transport_of(adapter)
                stack.push_async_callback(transport.close)
                await adapter.start(transport)
                stack.push_async_callback(adapter.close)
            if self.settings.admin.address is not None:
                # A web server takes 13 MiB: nothing for those who do without.
                from relay.admin.server import Admin

                admin = Admin(self.settings, self.client, self._heartbeat, self._watchdog)
                if (runner := await admin.start()) is not None:
                    stack.push_async_callback(runner.cleanup)
            async with asyncio.TaskGroup() as group:
                heartbeat = group.create_task(self._heartbeat.run())
                background = [
                    group.create_task(loop())
                    for loop in (
                        self._recovery.run,
                        self._courier.run,
                        self._watchdog.run,
                        self._listen,
                        self._call_others,
                    )
                ]
                intakes = [group.create_task(intake.run()) for intake in self.intakes]
                dispatchers = [
                    group.create_task(dispatcher.run()) for dispatcher in self.dispatchers.values()
                ]
                log.info(
                    "ready", queues=len(self.intakes), providers=len(self.providers), version=__version__
                )
                await self._wait(stop, until_empty=until_empty)
                log.info("stopping", seconds=self.settings.shutdown_timeout)
                # Claims end at once, while the intakes still wait for Redis.
                await asyncio.gather(self._drain(), _cancel(intakes))
                await _cancel(dispatchers)
                # A beat after it has left would make it a member again.
                await _cancel([*background, heartbeat])
                await self._leave()
        log.info("stopped")

    async def _join(self, stop: asyncio.Event) -> bool:
        """Become a member of the fleet; False where `stop` is set before Redis takes us."""
        while not stop.is_set():
            try:
                await self.fleet.beat(self.profile)
            except StoreError as error:
                if isinstance(error.__cause__, FORBIDDEN):
                    raise
                logger.warning("Redis takes nothing yet", error=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(JOIN_INTERVAL):
                        await stop.wait()
            else:
                return True
        return False

    async def _register(self) -> None:
        """Make the names of our lanes and queues known to those who look after them."""
        names = registry.Names(self.profile.lanes, self.profile.queues)
        try:
            await registry.register(self.client, self.settings.redis.prefix, names)
        except StoreError as error:
            logger.warning("cannot register the names of lanes and queues", error=str(error))

    async def _wait(self, stop: asyncio.Event, *, until_empty: bool) -> None:
        while not stop.is_set():
            if until_empty and await self._is_empty():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(EMPTY_POLL if until_empty else None):
                    await stop.wait()

    async def _is_empty(self) -> bool:
        """Whether every queue and every lane is empty, over the whole fleet."""
        try:
            workers = [member.profile.worker for member in await self.fleet.members()]
            for intake in self.intakes:
                if any(await intake.queue.depth(workers)):
                    return False
            for lane in self.lanes.values():
                if await lane.size() or await lane.letters():
                    return False
        except StoreError as error:
            logger.warning("cannot see whether all is empty", error=str(error))
            return False
        return True

    async def _drain(self) -> None:
        """Finish what is in flight, within `shutdown_timeout`."""
        drains = [asyncio.ensure_future(dispatcher.drain()) for dispatcher in self.dispatchers.values()]
        if not drains:
            return
        _, late = await asyncio.wait(drains, timeout=self.settings.shutdown_timeout)
        for drain in late:
            drain.cancel()
        if late:
            logger.warning("not all was answered in time; the rest is handed back", lanes=len(late))

    async def _leave(self) -> None:
        """Hand back all that this worker still holds, and strike it off."""
        try:
            async with asyncio.timeout(5):
                for intake in self.intakes:
                    await intake.finish()
                await asyncio.gather(*(self._leave_lane(provider) for provider in self.lanes))
                await self.fleet.leave(self.profile.worker)
                await self.fleet.wake(list(self.lanes))
        except (StoreError, TimeoutError) as error:
            logger.warning("cannot hand back; another worker will recover it", error=str(error))

    async def _leave_lane(self, provider: str) -> None:
        lane = self.lanes[provider]
        await lane.hand_back()
        await lane.forget_marks([intake.mark for intake in self.intakes])
        while await self._courier.carry(provider):
            pass

    def _on_arrival(self, provider: str) -> None:
        self.dispatchers[provider].arrived()

    def _on_ready(self, provider: str, ready: int) -> None:
        # More than we take ourselves: somebody else may have nothing to do.
        if ready > self.dispatchers[provider].slots:
            self._shared[provider] = ready
            self._share_out.set()

    async def _call_others(self) -> None:
        """Wake the other workers for lanes where more waits than this one takes."""
        while True:
            await self._share_out.wait()
            self._share_out.clear()
            lanes, self._shared = list(self._shared), {}
            try:
                await self.fleet.wake(lanes)
            except StoreError as error:
                logger.warning("cannot wake other workers", error=str(error))
            await asyncio.sleep(0.25)

    async def _listen(self) -> None:
        """Follow the wake-up calls. While there was no connection, anything may have been called."""
        first = True
        while True:
            try:
                async for called in self.fleet.calls():
                    lanes = called if called is not None else () if first else self.dispatchers
                    for provider in self.dispatchers.keys() & lanes:
                        self.dispatchers[provider].kick()
                    first = False
            except StoreError as error:
                logger.warning("cannot hear wake-up calls", error=str(error))
            await asyncio.sleep(LISTEN_PAUSE)


def transport_of(adapter: Provider[ProviderOptions]) -> Transport:
    """The connections of one provider, within its own limits."""
    return open_transport(
        adapter.options,
        allowed=adapter.allowed_networks,
        prefers_http2=adapter.prefers_http2,
        http2=adapter.http2,
    )


def _profile(settings: Settings) -> Profile:
    host, pid = socket.gethostname(), os.getpid()
    return Profile(
        worker=f"{host}-{pid}-{secrets.token_hex(3)}",
        host=host,
        machine=machine(),
        pid=pid,
        version=__version__,
        started=time.time(),
        lanes=tuple(settings.providers),
        queues=tuple(queue.name for queue in settings.queues),
    )


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        # Once may not be enough: see `heed_cancellation`.
        _, left = await asyncio.wait(left, timeout=1)
