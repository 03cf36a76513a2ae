"""Checks every few seconds for conditions that need an operator, and sends alerts through a provider.

One worker of the fleet checks at a time, under a short lock. The state of all alerts is one value in Redis,
which a check replaces only if nobody else has. It includes the messages that still have to go into the lane
of `alerts.provider`. Each has a number, and the lane takes no number twice, so another worker can continue at
any point.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
import structlog

from relay.engine.grouping import grouping
from relay.engine.repeats import redis_trouble
from relay.errors import StoreError
from relay.operations.alert_rules import TITLES, Findings, find, is_exact
from relay.operations.alerts import advance, identity, message_of, outage, with_events
from relay.provider import Provider
from relay.redis_client.client import Client
from relay.redis_client.replication import Replicas
from relay.settings.models import AlertSettings, Settings
from relay.settings.options import ProviderOptions
from relay.store import statistics
from relay.store.alerts import Alert, AlertBook, AlertStore
from relay.store.fleet import Fleet
from relay.store.groups import read_group
from relay.store.keys import LaneKeys, batch_id_of
from relay.store.lane import Lane
from relay.store.overview import Overview, read_overview
from relay.store.states import GroupState

logger = structlog.get_logger()

BATCH_ID = batch_id_of("alerts", "")
"""The field in the lane's control hash with the number of the last message."""


@dataclass(frozen=True, slots=True)
class AlertTuning:
    """Durations are in seconds."""

    first: float = 2.0
    """Wait before the first check of a worker, so that a fleet that starts is complete."""
    interval: float = 10.0
    """Wait between two checks of the fleet."""
    share: float = 0.05
    """The most of its time that a worker spends on checks: a large fleet is checked less often."""
    outage: float = 60.0
    """The shortest time without any worker that is reported, if `alerts.after` is not longer."""


class AlertLane:
    """The lane that takes the messages."""

    def __init__(self, lane: Lane, adapter: Provider[ProviderOptions], replicas: Replicas) -> None:
        self.provider = lane.provider
        self._replicas = replicas
        self._lane = lane
        self._adapter = adapter

    async def put(self, book: AlertBook) -> None:
        """Enqueue the messages of all events, each once. Raises StoreError."""
        last = await self._lane.last_batch(BATCH_ID)
        events = [event for event in book.events if event.serial > last]
        if not events:
            return
        group_of = grouping(self._adapter.options, self._adapter.destination)
        messages = [message_of(event, self._adapter) for event in events]
        if group_of is not None:
            messages = [msgspec.structs.replace(message, group=group_of(message)) for message in messages]
        await self._lane.enqueue(messages, BATCH_ID, str(events[-1].serial))
        # In a cluster, a failover of the lane's node must not undo messages that the alerts count as sent.
        await self._lane.wait_for_replica(self._replicas)


class Alerts:
    """The loop; `check` is its step."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        fleet: Fleet,
        worker: str,
        lane: AlertLane | None,
        *,
        tuning: AlertTuning = AlertTuning(),
    ) -> None:
        """`lane` is None if alerts are turned off."""
        self._client = client
        self._settings = settings
        self._fleet = fleet
        self._worker = worker
        self._lane = lane
        self._store = AlertStore(client, settings.redis.prefix)
        self._tuning = tuning

    async def run(self) -> None:
        """Check until cancelled; return immediately if alerts are turned off."""
        if self._lane is None:
            try:
                await self._store.forget_check()
            except StoreError as error:
                redis_trouble.log("cannot check for alerts", error)
            return
        wait = self._tuning.first
        while True:
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - no secret
            started = time.monotonic()
            try:
                await self.check(self._lane)
            except StoreError as error:
                redis_trouble.log("cannot check for alerts", error)
            wait = max(self._tuning.interval, (time.monotonic() - started) / self._tuning.share)

    async def check(self, lane: AlertLane) -> bool:
        """Check once. Returns False if another worker does it now. Raises StoreError."""
        if not await self._store.lock(self._worker, self._tuning.interval / 2):
            return False
        stored, book = await self._store.read()
        overview = await read_overview(self._client, self._settings)
        rules = self._settings.alerts
        failed = await self._failed(overview, rules)
        findings = await self._look_closer(find(overview, failed, rules), book, overview.at)
        new = advance(book, findings, overview.at, rules.after, lane.provider)
        starts = [member.info.started for member in overview.alive]
        past = outage(book.checked, overview.at, starts, max(rules.after, self._tuning.outage))
        if past is not None:
            new = with_events(new, [(past, False), (past, True)], overview.at)
        replaced = await self._store.replace(stored, new)
        if replaced is None:
            return False
        _log_changes(book, new, past)
        await self._send(lane, replaced, new)
        return True

    async def _send(self, lane: AlertLane, stored: bytes, book: AlertBook) -> None:
        """Put the messages of all events into the lane. The next check repeats failures."""
        if book.events:
            await lane.put(book)
            await self._fleet.wake([lane.provider])
            await self._store.replace(stored, msgspec.structs.replace(book, events=()))

    async def _look_closer(self, findings: Findings, book: AlertBook, now: float) -> Findings:
        """Read the groups with an alert, in lanes whose groups are too many for the overview."""
        found = {condition.key for condition in findings.conditions}
        conditions = list(findings.conditions)
        prefix, closer = self._settings.redis.prefix, set(findings.incomplete)
        for alert in book.alerts:
            if not alert.group or alert.provider not in closer or alert.key in found:
                continue
            keys = LaneKeys.of(prefix, alert.provider)
            status = await read_group(self._client, keys, alert.group, now)
            # The name in an alert is cut and has escapes, so such a group cannot be read.
            if status.state is GroupState.DISABLED or not is_exact(alert.group):
                conditions.append(alert)
        return replace(findings, conditions=tuple(conditions), incomplete=frozenset())

    async def _failed(self, overview: Overview, rules: AlertSettings) -> Mapping[str, int]:
        """Return the dead letters of the last hour, for lanes that may have had too many."""
        prefix, now = self._settings.redis.prefix, overview.at
        many = [lane.provider for lane in overview.lanes if rules.dead and lane.dead > rules.dead]
        # Two hours cost two reads a lane, the last 60 minutes cost 60.
        hours = {
            lane: await statistics.read_hours(self._client, prefix, lane, now=now, hours=2) for lane in many
        }
        suspected = [
            lane
            for lane, windows in hours.items()
            if sum(_dead_letters(counts) for _, counts in windows) > rules.dead
        ]
        if not suspected:
            return {}
        recent = await statistics.read_recent(self._client, prefix, suspected, now=now, minutes=60)
        return {lane: _dead_letters(counts) for lane, counts in recent.items()}


def _dead_letters(counts: statistics.Counts) -> int:
    return counts.outcomes.get("failed", 0) + counts.outcomes.get("malformed", 0)


def _log_changes(before: AlertBook, after: AlertBook, past: Alert | None) -> None:
    was, now = ({alert.key: alert for alert in book.firing} for book in (before, after))
    if past is not None:
        logger.warning("an alert fires", **_fields(past))
    for key, alert in now.items():
        if key not in was:
            logger.warning("an alert fires", **_fields(alert))
    for key, alert in was.items():
        if key not in now:
            logger.info("an alert is over", **_fields(alert))


def _fields(alert: Alert) -> dict[str, str]:
    fields = {
        "alert": alert.alert,
        "provider": alert.provider,
        "group": alert.group,
        "queue": alert.queue,
        "reason": alert.why or TITLES.get(alert.alert, ""),
        "key": identity(alert),
    }
    return {name: value for name, value in fields.items() if value}
