"""The conditions that need an operator, found in an overview of the fleet. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relay.settings.models import AlertSettings
from relay.store.alerts import Alert
from relay.store.groups import GroupStatus
from relay.store.overview import LaneStatus, Overview, QueueStatus
from relay.store.states import GroupState, State
from relay.text import hide_signing_secrets, one_line, shortened

PAUSE_TOO_LONG = 86400.0
"""Seconds after which a pause without an end needs an operator."""

TITLES: Mapping[str, str] = {
    "unauthorised": "the provider refuses our credentials",
    "faulty": "the adapter fails on every message",
    "unregistered": "most targets are unregistered",
    "breaker_open": "the breaker is open",
    "paused": "the provider has been paused for more than a day",
    "dead_letters": "many messages became dead letters within an hour",
    "oldest": "messages wait too long",
    "no_worker": "no worker is running",
    "queue_unread": "nobody reads the queue",
    "group_disabled": "the group is disabled",
    "test": "this is a test",
}
"""The kinds of alert, and their texts."""

_STATES: Mapping[str, str] = {
    State.UNAUTHORISED: "unauthorised",
    State.FAULTY: "faulty",
    State.UNREGISTERED: "unregistered",
    State.OPEN: "breaker_open",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """The conditions that hold now, and the parts of the fleet that could not be read."""

    conditions: tuple[Alert, ...]
    unreadable: frozenset[str] = frozenset()
    """Names of lanes and queues. Their alerts stay as they are."""
    fleet_is_readable: bool = True
    incomplete: frozenset[str] = frozenset()
    """Lanes of which not all groups were read."""

    def hides(self, alert: Alert) -> bool:
        """Return whether it is unknown now if the condition of this alert still holds."""
        if not self.fleet_is_readable and alert.alert in ("no_worker", "queue_unread"):
            return True
        name = alert.provider or alert.queue
        return name in self.unreadable or bool(alert.group and name in self.incomplete)


def find(overview: Overview, failed: Mapping[str, int], rules: AlertSettings) -> Findings:
    """Return the conditions that hold. `failed`: dead letters of the last hour, by lane that has many."""
    conditions = [
        *(condition for lane in overview.lanes for condition in _of_lane(lane, overview.at, rules)),
        *(condition for queue in overview.queues for condition in _of_queue(queue, rules)),
        *(
            Alert(alert="dead_letters", provider=lane, value=number, why=f"{number:,} within an hour")
            for lane, number in failed.items()
            if rules.dead and number > rules.dead
        ),
    ]
    return Findings(
        tuple(conditions),
        frozenset(lane.provider for lane in overview.lanes if lane.error)
        | frozenset(queue.name for queue in overview.queues if queue.error),
        not overview.errors,
        frozenset(lane.provider for lane in overview.lanes if not lane.groups.complete or lane.groups.error),
    )


def _of_lane(lane: LaneStatus, now: float, rules: AlertSettings) -> Iterator[Alert]:
    name = lane.provider
    if kind := _STATES.get(lane.state):
        yield Alert(alert=kind, provider=name, why=_line(lane.why))
    pause = lane.pause
    if pause is not None and not pause.until and pause.at and now - pause.at > PAUSE_TOO_LONG:
        yield Alert(
            alert="paused", provider=name, since=pause.at, why=_line(str(pause)), value=now - pause.at
        )
    # Messages of a paused lane wait because somebody wants them to.
    if pause is None and _is_old(lane, rules):
        yield _oldest(lane.oldest_seconds or 0.0, provider=name)
    if not lane.served and lane.backlog:
        why = f"no worker serves this lane, and {lane.backlog:,} messages wait"
        yield Alert(alert="no_worker", provider=name, why=why, value=lane.backlog)
    for group in lane.groups.in_state(GroupState.DISABLED):
        yield _disabled(name, group)


def _of_queue(queue: QueueStatus, rules: AlertSettings) -> Iterator[Alert]:
    if not queue.served and queue.waiting:
        why = f"no worker reads this queue, and {queue.waiting:,} elements wait"
        yield Alert(alert="queue_unread", queue=queue.name, why=why, value=queue.waiting)
    if _is_old(queue, rules):
        yield _oldest(queue.oldest_seconds or 0.0, queue=queue.name)


def _is_old(row: LaneStatus | QueueStatus, rules: AlertSettings) -> bool:
    return bool(rules.oldest) and row.oldest_seconds is not None and row.oldest_seconds > rules.oldest


def _oldest(seconds: float, *, provider: str = "", queue: str = "") -> Alert:
    why = f"the oldest has waited for {round(seconds / 60):,} minutes"
    return Alert(alert="oldest", provider=provider, queue=queue, why=why, value=seconds)


def is_exact(name: str) -> bool:
    """Return whether a name in an alert is certainly that of the group."""
    return "\\" not in name and "…" not in name


def _disabled(provider: str, group: GroupStatus) -> Alert:
    name = shortened(group.group, 300)
    return Alert(alert="group_disabled", provider=provider, group=name, why=_line(group.why))


def _line(text: str) -> str:
    return hide_signing_secrets(one_line(text))
