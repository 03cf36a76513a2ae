"""Alerts: which begin and which are over, and the messages about them. Pure.

An alert fires after its condition has held for `alerts.after`. One message goes out then, and one when the
condition is over, over the whole fleet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import msgspec

from relay.message import PRIORITIES, Message
from relay.operations.alert_rules import TITLES, Findings
from relay.operations.document_types import AlertDocument
from relay.provider import Provider
from relay.settings.durations import rough_duration
from relay.settings.options import ProviderOptions
from relay.store.alerts import Alert, AlertBook, AlertEvent
from relay.text import rfc3339

MOST_ALERTS = 200
"""Alerts at a time: a fleet in ruins must not flood the provider of its alerts."""

MOST_EVENTS = 1000
"""Messages that wait for their lane, if it refuses them. Older ones are dropped."""

MOST_GROUPS = 20
"""Alerts about groups of one lane at a time."""

QUEUE = "relay:alerts"
"""The name in the place of a queue in messages of alerts."""


def advance(book: AlertBook, findings: Findings, now: float, after: float, muted: str) -> AlertBook:
    """Return the alerts after a check.

    `muted` is the provider of the alerts: an alert about it fires without a message.
    """
    known = {alert.key: alert for alert in book.alerts}
    alerts: dict[tuple[str, ...], Alert] = {}
    events: list[tuple[Alert, bool]] = []
    for condition in findings.conditions:
        before = known.pop(condition.key, None)
        if before is None and not _has_room(condition, [*alerts.values(), *known.values()]):
            continue
        alert = _continued(condition, before, now)
        if not alert.firing and now - alert.seen >= after:
            alert = msgspec.structs.replace(alert, firing=True)
            events.append((alert, False))
        alerts[alert.key] = alert
    for alert in known.values():
        if findings.hides(alert):
            alerts[alert.key] = alert
        elif alert.firing:
            events.append((alert, True))
    return with_events(
        msgspec.structs.replace(book, checked=now, alerts=tuple(alerts.values())),
        [(alert, resolved) for alert, resolved in events if alert.provider != muted],
        now,
    )


def with_events(book: AlertBook, events: Iterable[tuple[Alert, bool]], now: float) -> AlertBook:
    """Return the book with further events: each an alert, and whether it is over."""
    # Numbers run ahead with the clock, so that none is used twice even if the book is lost.
    events = list(events)
    if not events:
        return book
    serial, found = max(book.serial, int(now * 1000)), list(book.events)
    for alert, resolved in events:
        serial += 1
        found.append(AlertEvent(serial=serial, alert=alert, resolved=resolved, at=now))
    return msgspec.structs.replace(book, serial=serial, events=tuple(found[-MOST_EVENTS:]))


def outage(checked: float, now: float, started: Iterable[float], shortest: float) -> Alert | None:
    """Return the alert about a time without any worker, which the first one that comes back finds.

    `checked` is the last check before, `started` the starts of the living workers.
    """
    if not checked or now - checked <= shortest or min(started, default=0.0) <= checked:
        return None
    why = f"no worker was running from {rfc3339(checked)} to {rfc3339(now)}"
    return Alert(alert="no_worker", since=checked, seen=checked, firing=True, why=why, value=now - checked)


def _continued(condition: Alert, before: Alert | None, now: float) -> Alert:
    if before is None:
        return msgspec.structs.replace(condition, since=condition.since or now, seen=now)
    return msgspec.structs.replace(before, why=condition.why, value=condition.value)


def _has_room(condition: Alert, others: list[Alert]) -> bool:
    if condition.group:
        same = [other for other in others if other.group and other.provider == condition.provider]
        if len(same) >= MOST_GROUPS:
            return False
    return len(others) < MOST_ALERTS


def alert_document(alert: Alert, *, resolved: bool = False, at: float | None = None) -> AlertDocument:
    """Return the payload of an alert's message; also an entry of `relay alerts --json`."""
    return {
        "text": text_of(alert, resolved=resolved, at=at),
        "alert": alert.alert,
        "provider": alert.provider,
        "group": alert.group,
        "queue": alert.queue,
        "status": "resolved" if resolved else "firing",
        "action": "resolve" if resolved else "trigger",
        "key": identity(alert),
        "since": round(alert.since, 3),
        "why": alert.why,
        "value": round(alert.value, 3),
    }


def text_of(alert: Alert, *, resolved: bool = False, at: float | None = None) -> str:
    """Return one line, for example `FIRING pusher: the provider refuses our credentials: 401 …`."""
    about = " ".join(filter(None, (alert.provider, alert.group, alert.queue))) or "relay"
    title = TITLES.get(alert.alert, alert.alert)
    if resolved:
        lasted = "" if at is None else f", after {rough_duration(max(0.0, at - alert.since))}"
        return f"RESOLVED {about}: no longer: {title}{lasted}"
    why = f": {alert.why}" if alert.why else ""
    return f"FIRING {about}: {title}{why} (since {rfc3339(alert.since)})"


def identity(alert: Alert) -> str:
    """Return a key that is the same for the begin and the end of an alert, of at most 128 characters."""
    about = "/".join(filter(None, (alert.alert, alert.provider, alert.group, alert.queue)))
    if len(about) > 80 or not about.isascii():
        about = f"{alert.alert}/{hashlib.sha256(about.encode()).hexdigest()[:32]}"
    return f"relay/{about}/{alert.since * 1000:.0f}"


def refusal(adapter: Provider[ProviderOptions]) -> str:
    """Return why a provider can send no alerts; empty if it can."""
    message = message_of(AlertEvent(serial=0, alert=Alert(alert="test")), adapter)
    refused = adapter.check(message)
    return "" if refused is None else f"{adapter.name} can send no alerts: {refused.reason}"


def message_of(event: AlertEvent, adapter: Provider[ProviderOptions]) -> Message:
    """Return the message about an event, in the form that the adapter takes."""
    payload = adapter.alert_payload(alert_document(event.alert, resolved=event.resolved, at=event.at))
    return Message(
        id=f"{identity(event.alert)}/{'resolved' if event.resolved else 'firing'}",
        queue=QUEUE,
        payload_json=json.dumps(payload).encode(),
        priority=PRIORITIES.index("high"),
        created_at=event.at,
        named=True,
    )
