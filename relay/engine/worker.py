"""One process: builds the loops, starts them, and stops them without losing anything."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec
import structlog

from relay import __version__, logs, tasks
from relay.admin.health import Health, WorkerReport
from relay.engine import forwarder, janitor, repeats
from relay.engine.claimer import ClaimTuning
from relay.engine.descriptors import raise_limit, within
from relay.engine.dispatcher import Dispatcher
from relay.engine.failure_detector import host_id
from relay.engine.forwarder import Forwarder
from relay.engine.heartbeat import Heartbeat
from relay.engine.intake import Intake
from relay.engine.janitor import Janitor
from relay.engine.lane_writer import Listeners
from relay.engine.parts import Parts
from relay.engine.recovery import Recovery
from relay.engine.repeats import redis_trouble
from relay.engine.router import Router, limits
from relay.engine.watchdog import Watchdog
from relay.errors import StoreError, UsageError
from relay.http import Transport, open_transport
from relay.provider import Provider
from relay.provider.redis import RedisProvider, keep_out
from relay.redis_client.client import AUTH_ERRORS, Client
from relay.redis_client.pipelines import linked
from relay.redis_client.replication import Replicas
from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.store import registry
from relay.store.deployment import Deployment
from relay.store.fleet import LEASE, Fleet, WorkerInfo
from relay.store.lane import Lane
from relay.store.neighbours import rivals
from relay.store.outbox import Outboxes
from relay.store.queue import Queue
from relay.store.scripting import load_scripts

EMPTY_POLL = 0.1
"""Seconds between two looks whether all is empty, for `--until-empty`."""

LISTEN_PAUSE = 1.0
"""Seconds before the wake-up calls are listened to again."""

JOIN_INTERVAL = 1.0
"""Seconds between two tries to join the fleet."""

START_TIMEOUT = 30.0
"""Seconds that an adapter may take to start."""

CANCEL_TIMEOUT = 3.0
"""Seconds after which a task that does not end is left alone: what it held is handed back all the same."""

logger = structlog.get_logger()


@dataclass(frozen=True)
class WorkerTuning:
    """The times of a worker's loops, in seconds."""

    claiming: ClaimTuning = field(default_factory=ClaimTuning)
    outbox_interval: float = forwarder.INTERVAL
    first_trim: float = janitor.FIRST_PAUSE


class Worker:
    """All loops of one process over one Redis client."""

    def __init__(
        self,
        settings: Settings,
        adapters: Mapping[str, type[Provider[ProviderOptions]]],
        client: Client,
        deployment: Deployment | None = None,
        *,
        on_turn: Callable[[], None] = lambda: None,
        tuning: WorkerTuning = WorkerTuning(),
    ) -> None:
        """`on_turn` is called every few seconds as long as the event loop and the heartbeat run.

        Raises UsageError if an adapter refuses its options.
        """
        self.info = _worker_info(settings, deployment or Deployment())
        settings = within(settings, raise_limit())
        self.settings = settings
        self.client = client
        self.deployment = deployment or Deployment()
        prefix = settings.redis.prefix
        self.fleet = Fleet(client, prefix)
        name = self.info.worker
        load_scripts()
        self._on_turn = on_turn
        self.parts = Parts()
        self._heartbeat = Heartbeat(self.fleet, self.info, on_turn)
        self._replicas = Replicas(client)
        self.providers = {
            provider: _built(adapters[options.type], provider, options)
            for provider, options in settings.providers.items()
        }
        keep_out(self.providers.values(), settings.own_names)
        self.lanes = {
            provider: Lane(client, prefix, provider, options, name)
            for provider, options in settings.providers.items()
        }
        outboxes = Outboxes(client, prefix, settings.providers)
        self._forwarder = Forwarder(outboxes, self._replicas, self.parts, interval=tuning.outbox_interval)
        self.dispatchers = {
            provider: Dispatcher(
                self.lanes[provider],
                adapter,
                on_outbox=partial(self._forwarder.notify, provider),
                lease_valid_since=self._heartbeat.lease_valid_since,
                parts=self.parts,
                claiming=tuning.claiming,
            )
            for provider, adapter in self.providers.items()
        }
        self.intakes = [
            Intake(
                Queue(client, prefix, queue.name, name, limits(queue)),
                Router(queue, settings, self.providers),
                self.lanes,
                replicas=self._replicas,
                listeners=Listeners(self._on_arrival, self._on_ready, self._forwarder.notify),
            )
            for queue in settings.queues
        ]
        routers = {intake.queue.name: intake.router for intake in self.intakes}
        self._recovery = Recovery(client, prefix, self.fleet, self.info, self.lanes, routers, self.parts)
        self._watchdog = Watchdog(client, self.intakes, lambda: self._heartbeat.last)
        self._joined = False
        self._janitor = Janitor(client, settings, self.fleet, first_pause=tuning.first_trim)
        self._shared: dict[str, int] = {}
        self._share_out = asyncio.Event()
        self._to_start = set(self.providers)
        self._all_tried = asyncio.Event()
        self._refusal: UsageError | None = None

    def health(self) -> Health:
        """The present state, for `/healthz` and the supervisor."""
        return Health(
            worker=self.info.worker if self._joined else "",
            pid=self.info.pid,
            settings=self.info.settings,
            troubles=(*self._watchdog.troubles(), *self._recovery.troubles(), *self.parts.troubles()),
            failures=dict(self.parts.failures),
            reconnections=self._watchdog.reconnections,
            seconds_since_redis_answered=round(time.monotonic() - self._heartbeat.last, 1),
            log_lines_dropped=logs.dropped(),
        )

    def redeploy(self, deployment: Deployment) -> None:
        """Publish a change of the deployment, such as a failed reload, with the next heartbeat."""
        self.deployment = deployment
        self.info = self._heartbeat.info = msgspec.structs.replace(self.info, deployment=deployment)

    async def run(self, stop: asyncio.Event, *, until_empty: bool = False) -> None:
        """Work until `stop` is set, or until all is empty; then finish what is in flight.

        Waits for Redis, whatever its trouble. A loop or a lane that fails starts again, and the others go on.
        Raises StoreError if Redis will never let us in, UsageError if an adapter finds that its options are
        wrong.
        """
        if not await self._join(stop):
            return
        await self._register()
        log = logger.bind(worker=self.info.worker)
        background = [
            self._keep("heartbeat", self._heartbeat.run),
            self._keep("recovery", self._recovery.run),
            self._keep("outboxes", self._forwarder.run),
            self._keep("watchdog", self._watchdog.run),
            self._keep("janitor", self._janitor.run),
            self._keep("wake-up listener", self._listen),
            self._keep("wake-up calls", self._notify_peers),
            self._keep("log", repeats.flush_forever),
        ]
        if serve := self._open_admin():
            background.append(self._keep("admin port", serve))
        lanes = [self._keep(f"lane {name}", partial(self._serve, name)) for name in self.providers]
        intakes = [self._keep(f"queue {intake.queue.name}", intake.run) for intake in self.intakes]
        try:
            await self._wait_for_lanes(stop)
            log.info("ready", queues=len(self.intakes), providers=len(self.providers), version=__version__)
            await self._wait(stop, until_empty=until_empty)
            log.info("stopping", seconds=self.settings.shutdown_timeout)
            # Claims end at once, while the intakes still wait for Redis.
            await asyncio.gather(self._drain(), _cancel(intakes))
        finally:
            await _cancel([*intakes, *lanes])
            # A beat after it has left would make it a member again.
            await _cancel(background)
            await self._leave()
            repeats.flush(every=True)
        log.info("stopped")

    def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(self.parts.keep(name, run), name=name)

    def _open_admin(self) -> Callable[[], Awaitable[None]] | None:
        """Listen on the admin port; returns its loop, or None if it is turned off or the supervisor's."""
        if self.settings.admin.address is None or self.deployment.supervisor:
            return None
        # A web server takes 13 MiB: only a process that serves loads it.
        from relay.admin.host import Host
        from relay.admin.server import Admin

        async def client() -> Client:
            return self.client

        def host() -> Host:
            health = self.health()
            return Host(self.deployment, [WorkerReport(pid=health.pid, age=0.0, health=health)])

        admin = Admin(self.settings, client, host)
        admin.open()
        return admin.run

    async def _serve(self, provider: str) -> None:
        """Start an adapter and serve its lane until cancelled."""
        adapter = self.providers[provider]
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    await self._start(adapter, stack)
            except UsageError as error:
                if provider not in self._to_start:
                    raise
                self._refusal = error
                self._all_tried.set()
                return
            finally:
                self._to_start.discard(provider)
                if not self._to_start:
                    self._all_tried.set()
            await self.dispatchers[provider].run()

    async def _start(self, adapter: Provider[ProviderOptions], stack: AsyncExitStack) -> None:
        if isinstance(adapter, RedisProvider):
            adapter.bind(await stack.enter_async_context(linked(adapter, self.client)))
        transport = transport_of(adapter)
        stack.push_async_callback(transport.close)
        await adapter.start(transport)
        stack.push_async_callback(adapter.close)

    async def _wait_for_lanes(self, stop: asyncio.Event) -> None:
        """Return once each adapter has started or failed to; raises UsageError if one never will."""
        if self._to_start:
            await tasks.run_until(stop, self._all_tried.wait())
        if self._refusal is not None:
            raise self._refusal

    async def _join(self, stop: asyncio.Event) -> bool:
        """Become a member of the fleet; False where `stop` is set before Redis takes us."""
        while not stop.is_set():
            self._on_turn()
            try:
                joined = await tasks.run_until(stop, self.fleet.heartbeat(self.info))
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
                self._joined = True
                await self._warn_of_other_settings()
                return True
        return False

    async def _warn_of_other_settings(self) -> None:
        """Log once if other workers treat messages of our queues by another configuration."""
        queues = self.info.queues
        for rival in await rivals(self.client, self.settings.redis.prefix, queues):
            logger.warning("another fleet reads the same queues", fleet=str(rival))
        try:
            members = await self.fleet.members()
        except StoreError:
            return
        others = sorted(
            member.info.worker
            for member in members
            if member.silent <= LEASE and self._is_at_odds_with(member.info)
        )
        if others:
            logger.warning(
                "other workers with this prefix use different settings",
                hint="reload them; `relay status` shows which",
                prefix=self.settings.redis.prefix,
                settings=self.info.settings,
                workers=others,
            )

    def _is_at_odds_with(self, other: WorkerInfo) -> bool:
        if other.settings in ("", self.info.settings):
            return False
        # The other workers of a supervisor get the same configuration at the same time.
        return not self.deployment.supervisor or other.deployment.supervisor != self.deployment.supervisor

    async def _register(self) -> None:
        """Write the names of our lanes and queues to Redis, so that `relay status` finds them later."""
        names = registry.Names(self.info.lanes, self.info.queues)
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
            workers = [member.info.worker for member in await self.fleet.members()]
            for intake in self.intakes:
                if any(await intake.queue.depth(workers)):
                    return False
            for lane in self.lanes.values():
                if await lane.size() or await lane.outbox_length():
                    return False
        except StoreError as error:
            redis_trouble.log("cannot check whether queues and lanes are empty", error)
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
            logger.warning(
                "requests did not finish within shutdown_timeout; releasing their messages", lanes=len(late)
            )

    async def _leave(self) -> None:
        """Hand back all that this worker still holds, and strike it off."""
        try:
            async with asyncio.timeout(5):
                failures = await asyncio.gather(
                    *(intake.finish() for intake in self.intakes), return_exceptions=True
                )
                failures += await asyncio.gather(
                    *(self._leave_lane(provider) for provider in self.lanes), return_exceptions=True
                )
                for failure in failures:
                    if failure is not None:
                        raise failure
                # A worker that ended normally is no concern of operators.
                await self.fleet.heartbeat(msgspec.structs.replace(self.info, left=True))
                await self.fleet.leave(self.info.worker)
                await self.fleet.wake(list(self.lanes))
        except (StoreError, TimeoutError) as error:
            logger.warning("cannot release messages; another worker will recover them", error=str(error))
        except Exception:
            logger.exception("releasing messages failed; this is a bug")

    async def _leave_lane(self, provider: str) -> None:
        lane = self.lanes[provider]
        await lane.release()
        await lane.forget_worker(self.info.worker, self.info.queues)
        while await self._forwarder.forward(provider):
            pass

    def _on_arrival(self, provider: str) -> None:
        self.dispatchers[provider].notify()

    def _on_ready(self, provider: str, ready: int) -> None:
        # More than we take ourselves: somebody else may have nothing to do.
        if ready > self.dispatchers[provider].slots:
            self._shared[provider] = ready
            self._share_out.set()

    async def _notify_peers(self) -> None:
        """Wake the other workers for lanes where more waits than this one takes."""
        while True:
            await self._share_out.wait()
            self._share_out.clear()
            lanes, self._shared = list(self._shared), {}
            try:
                await self.fleet.wake(lanes)
            except StoreError as error:
                redis_trouble.log("cannot wake other workers", error)
            await asyncio.sleep(0.25)

    async def _listen(self) -> None:
        """Follow the wake-up calls. While there was no connection, anything may have been called."""
        first = True
        while True:
            try:
                async for called in self.fleet.subscribe():
                    lanes = called if called is not None else () if first else self.dispatchers
                    for provider in self.dispatchers.keys() & lanes:
                        self.dispatchers[provider].wake()
                    first = False
            except StoreError as error:
                redis_trouble.log("cannot listen for wake-up calls", error)
            await asyncio.sleep(LISTEN_PAUSE)


def transport_of(adapter: Provider[ProviderOptions]) -> Transport:
    """The connections of one provider, within its own limits."""
    return open_transport(
        adapter.options,
        allowed=adapter.allowed_networks,
        prefers_http2=adapter.prefers_http2,
        http2=adapter.http2,
    )


def _built(
    adapter: type[Provider[ProviderOptions]], name: str, options: ProviderOptions
) -> Provider[ProviderOptions]:
    try:
        return adapter(name, options)
    except UsageError:
        raise
    except Exception as error:
        logger.exception("the adapter failed to start", provider=name)
        raise UsageError(f"providers.{name}: the adapter {options.type!r} failed: {error!r}") from error


def _worker_info(settings: Settings, deployment: Deployment) -> WorkerInfo:
    host, pid = socket.gethostname(), os.getpid()
    return WorkerInfo(
        worker=f"{host}-{pid}-{secrets.token_hex(3)}",
        host=host,
        host_id=host_id(),
        pid=pid,
        version=__version__,
        started=time.time(),
        lanes=tuple(settings.providers),
        queues=tuple(queue.name for queue in settings.queues),
        settings=digest(settings),
        deployment=deployment,
    )


async def _cancel(running: Iterable[asyncio.Task[None]], seconds: float = CANCEL_TIMEOUT) -> None:
    left, deadline = set(running), time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        for task in left:
            task.cancel()
        # Once may not be enough: see `raise_if_cancelled`.
        _, left = await asyncio.wait(left, timeout=1)
    if left:
        logger.error("parts did not stop in time", parts=[task.get_name() for task in left])
