"""Builds the parts of a worker from its settings."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from relay import __version__
from relay.engine.adapter_calls import AdapterCalls
from relay.engine.alerts import AlertLane, Alerts, AlertTuning
from relay.engine.claimer import ClaimTuning
from relay.engine.direct_parts import DirectParts
from relay.engine.dispatcher import Dispatcher
from relay.engine.drain_switch import DrainSwitch
from relay.engine.failure_detector import host_id
from relay.engine.flusher import Flusher, FlushTuning
from relay.engine.forwarder import Forwarder, ForwardTuning
from relay.engine.heartbeat import Heartbeat, HeartbeatTuning
from relay.engine.idle_lanes import IdleLanes, IdleTuning
from relay.engine.intake import Intake
from relay.engine.janitor import Janitor, JanitorTuning
from relay.engine.lane_service import LaneService
from relay.engine.lane_writer import Listeners
from relay.engine.membership import Membership
from relay.engine.parts import Parts
from relay.engine.peers import Peers
from relay.engine.recorder import LaneRecorder, RecorderTuning
from relay.engine.recovery import Recovery, RecoveryTuning
from relay.engine.router import Router, limits
from relay.engine.settler import SettleTuning
from relay.engine.vitals import VitalsMeter
from relay.engine.watchdog import Watchdog, WatchdogTuning
from relay.errors import UsageError
from relay.provider import Provider
from relay.provider.redis import forbid_names
from relay.redis_client.client import Client
from relay.redis_client.replication import Replicas
from relay.redis_client.topology import is_cluster
from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.store.deployment import Deployment
from relay.store.fleet import Fleet, WorkerInfo
from relay.store.lane import Lane
from relay.store.lane_settings import Published
from relay.store.many_lanes import ManyLanes
from relay.store.outbox import Outboxes
from relay.store.queue import Queue
from relay.store.recording import Policy as RecordPolicy
from relay.store.recording import Recording
from relay.store.scripting import load_scripts

if TYPE_CHECKING:
    from relay.engine.tracing import Tracing

AdapterTypes = Mapping[str, type[Provider[ProviderOptions]]]
Adapters = Mapping[str, Provider[ProviderOptions]]

logger = structlog.get_logger()


@dataclass(frozen=True)
class WorkerTuning:
    """The intervals, thresholds and limits of a worker's loops."""

    claiming: ClaimTuning = field(default_factory=ClaimTuning)
    settling: SettleTuning = field(default_factory=SettleTuning)
    idle: IdleTuning = field(default_factory=IdleTuning)
    forwarding: ForwardTuning = field(default_factory=ForwardTuning)
    heartbeat: HeartbeatTuning = field(default_factory=HeartbeatTuning)
    recovery: RecoveryTuning = field(default_factory=RecoveryTuning)
    watchdog: WatchdogTuning = field(default_factory=WatchdogTuning)
    janitor: JanitorTuning = field(default_factory=JanitorTuning)
    recording: RecorderTuning = field(default_factory=RecorderTuning)
    flushing: FlushTuning = field(default_factory=FlushTuning)
    alerting: AlertTuning = field(default_factory=AlertTuning)


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of one worker. Those of lanes are by provider."""

    fleet: Fleet
    membership: Membership
    heartbeat: Heartbeat
    meter: VitalsMeter
    drain: DrainSwitch
    recovery: Recovery
    peers: Peers

    intakes: Sequence[Intake]
    lanes: Mapping[str, Lane]
    dispatchers: Mapping[str, Dispatcher]
    lane_service: LaneService
    idle_lanes: IdleLanes
    forwarder: Forwarder
    recorders: Mapping[str, LaneRecorder]
    flusher: Flusher

    watchdog: Watchdog
    janitor: Janitor
    alerts: Alerts
    parts: Parts
    """Restarts loops that fail."""
    tracing: Tracing | None
    """None: without spans."""


def build(
    settings: Settings,
    adapters: Adapters,
    client: Client,
    info: WorkerInfo,
    *,
    published: Published,
    on_turn: Callable[[], None],
    drain: DrainSwitch,
    tuning: WorkerTuning,
) -> Components:
    """Build the parts of a worker. `published` are its settings, as the fleet sees them. `on_turn`: see
    `Worker`."""
    load_scripts()
    prefix, name = settings.redis.prefix, info.worker
    parts, replicas = Parts(), Replicas(client)
    fleet = Fleet(client, prefix)
    meter = VitalsMeter()
    heartbeat = Heartbeat(
        fleet,
        info,
        on_turn,
        measure=meter.measure,
        on_drain_order=drain.seen,
        tuning=tuning.heartbeat,
    )
    outboxes = Outboxes(client, prefix, settings.providers)
    forwarder = Forwarder(outboxes, replicas, parts, tuning=tuning.forwarding)
    lanes = {
        provider: Lane(client, prefix, provider, options, name)
        for provider, options in settings.providers.items()
    }
    recorders = {
        provider: LaneRecorder(options, name, tuning=tuning.recording)
        for provider, options in settings.providers.items()
    }
    tracing, calls = _traced(settings, adapters, name)
    dispatchers = {
        provider: Dispatcher(
            lanes[provider],
            adapter,
            on_outbox=partial(forwarder.notify, provider),
            lease_valid_since=heartbeat.lease_valid_since,
            parts=parts,
            claiming=tuning.claiming,
            settling=tuning.settling,
            recorder=recorders[provider],
            calls=calls.get(provider),
        )
        for provider, adapter in adapters.items()
    }
    peers = Peers(fleet, dispatchers)
    listeners = Listeners(
        on_arrival=lambda provider: dispatchers[provider].notify(),
        on_ready=peers.on_ready,
        on_outbox=forwarder.notify,
    )
    direct = {provider: dispatcher.direct for provider, dispatcher in dispatchers.items()}
    direct_parts = None if is_cluster(client) else DirectParts(ManyLanes(client), lanes, direct)
    intakes = [
        Intake(
            Queue(client, prefix, queue.name, name, limits(queue)),
            Router(queue, settings, adapters),
            lanes,
            replicas=replicas,
            listeners=listeners,
            direct=direct,
            parts=direct_parts,
        )
        for queue in settings.queues
    ]
    routers = {intake.queue.name: intake.router for intake in intakes}
    meter.observe(intakes, dispatchers.values())
    return Components(
        fleet=fleet,
        membership=Membership(client, prefix, fleet, heartbeat, on_turn, published=published),
        heartbeat=heartbeat,
        meter=meter,
        drain=drain,
        recovery=Recovery(client, prefix, fleet, info, lanes, routers, parts, tuning=tuning.recovery),
        peers=peers,
        intakes=intakes,
        lanes=lanes,
        dispatchers=dispatchers,
        lane_service=LaneService(client, adapters, dispatchers),
        idle_lanes=IdleLanes(client, prefix, dispatchers, tuning=tuning.idle),
        forwarder=forwarder,
        recorders=recorders,
        flusher=Flusher(
            Recording(client, prefix, _record_policies(settings, name)), recorders, tuning=tuning.flushing
        ),
        watchdog=Watchdog(client, intakes, lambda: heartbeat.last, tuning=tuning.watchdog),
        janitor=Janitor(client, settings, fleet, tuning=tuning.janitor),
        alerts=Alerts(
            client,
            settings,
            fleet,
            name,
            _alert_lane(settings, lanes, adapters, replicas),
            tuning=tuning.alerting,
        ),
        parts=parts,
        tracing=tracing,
    )


def _traced(
    settings: Settings, adapters: Adapters, worker: str
) -> tuple[Tracing | None, Mapping[str, AdapterCalls]]:
    """Return the spans of this worker and the calls that make them. Raises UsageError."""
    if not settings.telemetry.otlp:
        return None, {}
    # OpenTelemetry is an extra.
    from relay.engine.traced_calls import TracedCalls
    from relay.engine.tracing import Tracing

    tracing = Tracing.from_environment(worker)
    return tracing, {name: TracedCalls(adapter, tracing) for name, adapter in adapters.items()}


def _alert_lane(
    settings: Settings, lanes: Mapping[str, Lane], adapters: Adapters, replicas: Replicas
) -> AlertLane | None:
    provider = settings.alerts.provider
    return None if provider is None else AlertLane(lanes[provider], adapters[provider], replicas)


def _record_policies(settings: Settings, worker: str) -> dict[str, RecordPolicy]:
    return {
        provider: RecordPolicy(
            worker,
            min((rate.per_second for rate in options.lane_rate), default=0.0),
            0 if options.journal is None else options.journal.most,
        )
        for provider, options in settings.providers.items()
    }


def build_adapters(settings: Settings, types: AdapterTypes) -> Adapters:
    """Create the adapter of each provider. Raises UsageError if one refuses its options."""
    adapters = {
        name: _build_adapter(types[options.type], name, options)
        for name, options in settings.providers.items()
    }
    forbid_names(adapters.values(), settings.own_names)
    return adapters


def _build_adapter(
    adapter: type[Provider[ProviderOptions]], name: str, options: ProviderOptions
) -> Provider[ProviderOptions]:
    try:
        return adapter(name, options)
    except UsageError:
        raise
    except Exception as error:
        logger.exception("the adapter failed to start", provider=name)
        raise UsageError(f"providers.{name}: the adapter {options.type!r} failed: {error!r}") from error


def worker_info(settings: Settings, deployment: Deployment) -> WorkerInfo:
    """Return the description that a new worker publishes, with a name that is never used again."""
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
