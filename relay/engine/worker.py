"""One process: starts its loops, and stops them without losing anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Literal

import structlog

from relay import __version__, logs, tasks
from relay.admin.counts import NO_COUNTS, ProcessCounts
from relay.admin.health import Health, WorkerReport
from relay.engine import repeats
from relay.engine.assembly import AdapterTypes, WorkerTuning, build, build_adapters, worker_info
from relay.engine.descriptors import raise_limit, within
from relay.engine.drain_switch import DrainSwitch
from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store import drain
from relay.store.deployment import Deployment
from relay.store.drain import DrainOrder
from relay.store.lane_settings import Published
from relay.store.vitals import Duty

__all__ = ["Worker", "WorkerTuning"]

EMPTY_POLL = 0.1
"""Seconds between two checks whether all is empty, for `--until-empty`."""

CANCEL_TIMEOUT = 3.0
"""Seconds for cancelled tasks to end. Later ones are abandoned; their messages are released all the same."""

RELEASE_PAUSE = 1.0
"""Seconds until a drained worker tries again to release its messages."""

LEAVE_TIMEOUT = 5.0
"""Seconds to release all messages at the end."""

End = Literal["over", "resumed"]
"""The end of a worker's work. `resumed`: it was drained, and an operator wants it to work again."""

logger = structlog.get_logger()


class Worker:
    """All loops of one process over one Redis client."""

    def __init__(
        self,
        settings: Settings,
        adapters: AdapterTypes,
        client: Client,
        deployment: Deployment | None = None,
        *,
        on_turn: Callable[[], None] = lambda: None,
        earlier: ProcessCounts = NO_COUNTS,
        drained: DrainOrder | None = None,
        tuning: WorkerTuning | None = None,
    ) -> None:
        """`earlier` are the counters of workers that ran before in this process. `on_turn` is called every
        few seconds as long as the event loop and the heartbeat run. `drained` is the order by which the
        worker before this one took no messages; it stays in force.

        Raises UsageError if an adapter refuses its options.
        """
        # The fleet sees the settings of the file, before limits of this process change them.
        info = worker_info(settings, deployment or Deployment())
        published = Published.of(settings)
        self._earlier = earlier
        self._settings = settings = within(settings, raise_limit())
        self._client = client
        built = build_adapters(settings, adapters)
        self._components = build(
            settings,
            built,
            client,
            info,
            published=published,
            on_turn=on_turn,
            drain=DrainSwitch(drained),
            tuning=tuning or WorkerTuning(),
        )

    def health(self) -> Health:
        """The present state, for `/healthz` and the supervisor."""
        components = self._components
        info, parts, watchdog = components.heartbeat.info, components.parts, components.watchdog
        counts = self._earlier + ProcessCounts(
            failures=parts.failures,
            reconnections=watchdog.reconnections,
            lanes={
                provider: counts
                for provider, recorder in components.recorders.items()
                if (counts := recorder.counts).results
            },
        )
        return Health(
            worker=info.worker if components.membership.joined else "",
            pid=info.pid,
            settings=info.settings,
            troubles=(*watchdog.troubles(), *components.recovery.troubles(), *parts.troubles()),
            failures=counts.failures,
            reconnections=counts.reconnections,
            seconds_since_redis_answered=round(time.monotonic() - components.heartbeat.last, 1),
            reload_request=self.reload_request,
            log_lines_dropped=logs.dropped(),
            lanes=counts.lanes,
        )

    def redeploy(self, deployment: Deployment) -> None:
        """Publish a change of the deployment, such as a failed reload, with the next heartbeat."""
        self._components.heartbeat.redeploy(deployment)

    @property
    def reload_request(self) -> str | None:
        """The last request of an operator to reload; empty if there is none, None before a heartbeat."""
        return self._components.fleet.reload_request

    @property
    def drain_order(self) -> DrainOrder | None:
        """The order of an operator to take no messages, if one is in force."""
        return self._components.drain.order

    async def run(self, stop: asyncio.Event, *, until_empty: bool = False) -> End:
        """Work until `stop` is set, or until all is empty; then finish the messages in flight.

        If an operator drains this worker, it finishes its messages and stands by until that order is
        withdrawn; another worker of this process takes its place then.

        Waits for Redis if it does not answer. A loop or a lane that fails is restarted, and the others
        continue. Raises StoreError if Redis refuses the credentials, UsageError if an adapter finds that its
        options are wrong.
        """
        components = self._components
        if not await components.membership.join(stop):
            return "over"
        log = logger.bind(worker=components.heartbeat.info.worker)
        await self._until_done(stop, self._keep_order)
        background = self._start_background()
        lanes: list[asyncio.Task[None]] = []
        intakes: list[asyncio.Task[None]] = []
        try:
            if not components.drain.ordered.is_set():
                lanes += (
                    self._keep(f"lane {name}", partial(components.lane_service.serve, name))
                    for name in components.lanes
                )
                intakes += (
                    self._keep(f"queue {intake.queue.name}", intake.run) for intake in components.intakes
                )
                await components.lane_service.wait_until_tried(stop)
            log.info("ready", queues=len(intakes), providers=len(lanes), version=__version__)
            await self._wait(stop, components.drain.ordered, until_empty=until_empty)
            if components.drain.ordered.is_set() and not stop.is_set():
                await self._stand_by(stop, lanes, intakes, until_empty=until_empty)
            else:
                log.info("stopping", seconds=self._settings.shutdown_timeout)
                # Claims end immediately, while the intakes still wait for Redis.
                await asyncio.gather(self._drain(), _cancel(intakes))
        finally:
            await _cancel([*intakes, *lanes])
            # A heartbeat after it has left would make it a member again.
            await _cancel(background)
            await self._leave()
            if components.tracing is not None:
                await components.tracing.close()
            repeats.flush_all()
        log.info("stopped")
        return "over" if stop.is_set() or not components.drain.ended.is_set() else "resumed"

    async def _stand_by(
        self,
        stop: asyncio.Event,
        lanes: Iterable[asyncio.Task[None]],
        intakes: Iterable[asyncio.Task[None]],
        *,
        until_empty: bool,
    ) -> None:
        """Finish the messages in flight, take no others, and wait until an operator ends that."""
        components = self._components
        log = logger.bind(worker=components.heartbeat.info.worker)
        order = components.drain.order
        if order is not None:
            components.meter.duty = Duty.DRAINING
            log.info("draining", by=order.by, reason=order.reason, seconds=self._settings.shutdown_timeout)
        await asyncio.gather(self._drain(), _cancel(intakes))
        await _cancel(lanes)
        components.watchdog.ignore_queues()
        await self._until_done(stop, self._release_all)
        components.meter.duty = Duty.DRAINED
        await self._until_done(stop, components.heartbeat.beat)
        log.info("drained", hint="`relay worker resume` lets it work again")
        await self._wait(stop, components.drain.ended, until_empty=until_empty)

    async def _until_done(self, stop: asyncio.Event, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step, and again while Redis does not answer."""
        while not stop.is_set():
            try:
                await step()
                return
            except StoreError as error:
                redis_trouble.log("cannot stand by yet", error)
                await tasks.wait_for_any(stop, seconds=RELEASE_PAUSE)

    async def _keep_order(self) -> None:
        """Write the order that this worker has from the one before it, so that it can be withdrawn."""
        components = self._components
        if (order := components.drain.order) is None or components.fleet.drain_order is not None:
            return
        await drain.order(self._client, self._settings.redis.prefix, components.heartbeat.info.worker, order)

    def _start_background(self) -> list[asyncio.Task[None]]:
        components = self._components
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "heartbeat": components.heartbeat.run,
            "recovery": components.recovery.run,
            "idle lanes": components.idle_lanes.run,
            "outboxes": components.forwarder.run,
            "watchdog": components.watchdog.run,
            "janitor": components.janitor.run,
            "statistics": components.flusher.run,
            "alerts": components.alerts.run,
            "wake-up listener": components.peers.listen,
            "wake-up calls": components.peers.notify,
            "log": repeats.flush_forever,
        }
        if serve := self._open_admin():
            loops["admin port"] = serve
        return [self._keep(name, run) for name, run in loops.items()]

    def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(self._components.parts.keep(name, run), name=name)

    def _open_admin(self) -> Callable[[], Awaitable[None]] | None:
        """Listen on the admin port. Returns its loop, or None if it is turned off or the supervisor's."""
        deployment = self._components.heartbeat.info.deployment
        if self._settings.admin.address is None or deployment.supervisor:
            return None
        # A web server takes 13 MiB, so only a process that serves loads it.
        from relay.admin.host import Host
        from relay.admin.server import Admin
        from relay.engine.configured_intake import ConfiguredIntake

        async def client() -> Client:
            return self._client

        def host() -> Host:
            health = self.health()
            reports = [WorkerReport(pid=health.pid, age=0.0, health=health)]
            return Host(self._components.heartbeat.info.deployment, reports)

        admin = Admin(self._settings, client, host, partial(ConfiguredIntake, settings=self._settings))
        admin.open()
        return admin.run

    async def _wait(self, *over: asyncio.Event, until_empty: bool) -> None:
        """Return when one of the events is set, or when all is empty."""
        while not any(event.is_set() for event in over):
            if until_empty and await self._is_empty():
                return
            await tasks.wait_for_any(*over, seconds=EMPTY_POLL if until_empty else None)

    async def _is_empty(self) -> bool:
        """Return whether every queue and every lane is empty, over the whole fleet."""
        components = self._components
        try:
            workers = [member.info.worker for member in await components.fleet.members()]
            for intake in components.intakes:
                if any(await intake.queue.depth(workers)):
                    return False
            for lane in components.lanes.values():
                if await lane.size() or await lane.outbox_length():
                    return False
        except StoreError as error:
            redis_trouble.log("cannot check whether queues and lanes are empty", error)
            return False
        return True

    async def _drain(self) -> None:
        """Finish the messages in flight, within `shutdown_timeout`."""
        drains = [
            asyncio.ensure_future(dispatcher.drain(partial(self._components.peers.call, provider)))
            for provider, dispatcher in self._components.dispatchers.items()
        ]
        if not drains:
            return
        _, late = await asyncio.wait(drains, timeout=self._settings.shutdown_timeout)
        for one in late:
            one.cancel()
        if late:
            logger.warning(
                "requests did not finish within shutdown_timeout; releasing their messages", lanes=len(late)
            )

    async def _leave(self) -> None:
        """Release all messages that this worker still holds, and end its membership."""
        components = self._components
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await components.flusher.finish()
                await self._release_all()
                await _all(self._leave_lane(provider) for provider in components.lanes)
                await components.membership.leave()
        except (StoreError, TimeoutError) as error:
            logger.warning("cannot release messages; another worker will recover them", error=str(error))
        except Exception:
            logger.exception("releasing messages failed; this is a bug")

    async def _release_all(self) -> None:
        """Release all messages that this worker still holds. Raises the first error, after all attempts."""
        components = self._components
        try:
            await _all(intake.finish() for intake in components.intakes)
        finally:
            await _all(lane.release() for lane in components.lanes.values())

    async def _leave_lane(self, provider: str) -> None:
        components = self._components
        lane, info = components.lanes[provider], components.heartbeat.info
        await lane.forget_worker(info.worker, info.queues)
        while await components.forwarder.forward(provider):
            pass


async def _all(steps: Iterable[Awaitable[object]]) -> None:
    """Take all steps. Raises the first error after all of them have ended."""
    for result in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _cancel(running: Iterable[asyncio.Task[None]], seconds: float = CANCEL_TIMEOUT) -> None:
    left, deadline = set(running), time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        for task in left:
            task.cancel()
        # Once may not be enough: see `raise_if_cancelled`.
        _, left = await asyncio.wait(left, timeout=1)
    if left:
        logger.error("parts did not stop in time", parts=[task.get_name() for task in left])
