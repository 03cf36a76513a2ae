"""The changes that a reload of the fleet with another configuration would make. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.store.findings import Finding, Level
from relay.store.lane_settings import LaneSettings, Published, PublishedQueue
from relay.store.overview import LaneStatus, Overview, QueueStatus
from relay.text import shortened

LONGEST_VALUE = 60
"""Characters of an old or a new value."""


def changes(overview: Overview, live: Published, settings: Settings) -> list[Finding]:
    """Return a finding for each difference between the fleet and a file: warnings about messages first.

    `overview` and `live` describe the fleet, `live` the settings that its workers have published.
    """
    new = Published.of(settings)
    found = [
        *(finding for lane in overview.lanes for finding in _lane_left(lane)),
        *(finding for queue in overview.queues for finding in _queue_left(queue)),
        *(finding for lane in overview.lanes for finding in _lane(lane, live, new)),
        *_queues(live, new),
    ]
    if not overview.alive:
        text = "no worker is running; this compares the file with the last settings that were published"
        found.append(Finding(Level.UNKNOWN, "fleet", text))
    elif not found and all(member.info.settings == digest(settings) for member in overview.alive):
        found.append(Finding(Level.OK, "fleet", "a reload changes no queue and no provider"))
    elif not found:
        text = "only options that workers do not publish differ, such as URLs and credentials"
        found.append(Finding(Level.OK, "fleet", text))
    return found


def _lane_left(lane: LaneStatus) -> Iterator[Finding]:
    if lane.configured:
        return
    numbers = {
        "waiting": lane.waiting,
        "delayed": lane.delayed,
        "in flight": lane.in_flight,
        "dead letters": lane.dead,
        "receipts to forward": lane.outbox,
    }
    held = ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)
    if lane.error:
        yield Finding(
            Level.WARNING, lane.provider, f"the lane leaves the fleet, and cannot be read: {lane.error}"
        )
    elif held:
        text = f"the lane leaves the fleet with messages in it, and nobody sends them: {held}"
        yield Finding(Level.WARNING, lane.provider, f"{text}; keep the provider until the lane is empty")
    else:
        yield Finding(Level.OK, lane.provider, "the lane leaves the fleet; it is empty")


def _queue_left(queue: QueueStatus) -> Iterator[Finding]:
    if queue.configured:
        return
    subject = f"queue {queue.name}"
    if queue.waiting or queue.taken:
        text = f"nobody reads this queue any more, and {queue.waiting + queue.taken:,} elements are in it"
        yield Finding(Level.WARNING, subject, f"{text}; keep it in the file, or delete the list")
    else:
        text = "nobody reads this queue any more; elements that applications still push to it will wait"
        yield Finding(Level.WARNING if queue.served else Level.OK, subject, text)


def _lane(lane: LaneStatus, live: Published, new: Published) -> Iterator[Finding]:
    name = lane.provider
    after, before = new.lanes.get(name), live.lanes.get(name)
    if after is None:
        return
    if before is None:
        yield Finding(Level.OK, name, f"new provider, {after.rate or 'without a rate limit'}")
        return
    if after.type != before.type:
        text = f"type: {before.type} → {after.type}: messages that wait were written for the old one"
        level = Level.WARNING if lane.backlog else Level.OK
        yield Finding(level, name, text)
    if after.rate != before.rate:
        starts = "; its token bucket starts again, full" if after.rate else ""
        yield Finding(Level.OK, name, f"rate: {_rate(before)} → {_rate(after)}{starts}")
    if lane.override is not None and after.rate != before.rate:
        text = f"an operator's rate stays in force: {lane.override}"
        yield Finding(Level.WARNING, name, text)
    for option, (old, value) in _differences(_options(before), _options(after)).items():
        yield Finding(Level.OK, name, f"{option}: {_shown(old)} → {_shown(value)}")


def _queues(live: Published, new: Published) -> Iterator[Finding]:
    for name, after in new.queues.items():
        before = live.queues.get(name)
        if before is None:
            yield Finding(Level.OK, f"queue {name}", "new queue")
            continue
        for option, (old, value) in _differences(_queue_options(before), _queue_options(after)).items():
            yield Finding(Level.OK, f"queue {name}", f"{option}: {_shown(old)} → {_shown(value)}")


def _rate(lane: LaneSettings) -> str:
    return lane.rate or "unlimited"


def _options(lane: LaneSettings) -> dict[str, Any]:
    found: dict[str, Any] = {"concurrency": lane.concurrency, "order": lane.order, **lane.options}
    if lane.groups is not None:
        found["groups"] = {"by": lane.groups.by, "rate": lane.groups.rate, **lane.groups.options}
    return found


def _queue_options(queue: PublishedQueue) -> dict[str, Any]:
    return {"provider": queue.provider or None, **queue.options}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = sorted({*before, *after})
    return {
        name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    }


def _shown(value: Any) -> str:
    return "default" if value is None else shortened(str(value), LONGEST_VALUE)
