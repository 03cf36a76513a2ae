"""The reason why a message does not go now, in one plain sentence. Pure."""

from __future__ import annotations

from relay.settings.durations import rough_duration
from relay.store.fleet import LEASE, Member
from relay.store.groups import GroupStatus
from relay.store.lookup import Located, Queued
from relay.store.overview import LaneStatus, QueueStatus
from relay.store.states import GroupState, State
from relay.text import quote, rfc3339

_OF_LANE = {
    State.PAUSED: "the provider is paused",
    State.THROTTLED: "the provider asked to wait",
    State.OPEN: "the provider fails, so one message is tried now and then",
    State.TRIAL: "the provider refused a message, so others are tried one at a time",
    State.UNAUTHORISED: "the provider refuses our credentials",
    State.UNREGISTERED: "too many targets are unregistered, so the lane holds until relay resume",
    State.FAULTY: "the adapter fails for every message",
}

_OF_GROUP = {
    GroupState.LIMITED: "its group has no token left",
    GroupState.FULL: "its group has as many messages in flight as it may have",
    GroupState.THROTTLED: "its group was asked to wait",
    GroupState.OPEN: "its group fails, so one message is tried now and then",
    GroupState.PAUSED: "its group is paused",
    GroupState.DISABLED: "its group is disabled",
}


def is_endless(lane: LaneStatus, group: GroupStatus | None) -> bool:
    """Return whether the time at which the lane or the group sends again is unknown."""
    if not lane.served or (lane.state not in (State.RUNNING, State.TRIAL) and not lane.hold):
        return True
    held = group is not None and group.state in (GroupState.PAUSED, GroupState.DISABLED)
    return held and group is not None and not group.hold


def in_flight(member: Member | None, worker: str, now: float) -> str:
    """The message is at a worker."""
    if member is None:
        return f"worker {worker} has it, and is unknown: another worker will recover it"
    place = f"worker {worker} (host {member.info.host}, pid {member.info.pid})"
    if member.silent > LEASE:
        silence = rough_duration(member.silent)
        return f"{place} has it, and has been silent for {silence}: another worker will recover it"
    return f"{place} sends it now"


def blocked(found: Located) -> str:
    """The message waits for another one."""
    first = f"message {quote(found.behind)}" if found.behind else "another message"
    before = f", and {found.ahead - 1:,} more wait before it" if found.ahead and found.ahead > 1 else ""
    return f"{first} with its ordering key {quote(found.message.ordering_key)} comes first{before}"


def delayed(found: Located, lane: LaneStatus) -> str:
    """The message waits for its time, or for its next attempt."""
    at = rfc3339(found.due_at)
    tried = found.tries.partition(":")[0]
    attempts = (
        f"its attempt {tried} failed, and the next one is due" if tried not in ("", "0") else "it is due"
    )
    held = _lane(lane)
    return f"{attempts} at {at}" + (f"; besides, {held}" if held else "")


def waiting(lane: LaneStatus, found: Located, group: GroupStatus | None, position: int | None) -> str:
    """The message could be sent now, but for its lane, its group, or others."""
    if held := _lane(lane):
        return held
    if group is not None and (text := _OF_GROUP.get(group.state)):
        return _with_details(text, group.why, group.hold)
    rate = f", at {lane.rate}" if lane.rate and lane.rate != "unlimited" else ""
    if lane.override is not None:
        rate = f", at the rate of an operator: {lane.override}"
    if position is None:
        return f"many messages are before it{rate}"
    if position == 1:
        return f"it is next{rate}"
    return f"{position - 1:,} message{'s are' if position > 2 else ' is'} before it{rate}"


def queued(queue: QueueStatus, found: Queued) -> str:
    """The message is in no lane yet."""
    if not queue.served:
        return f"no living worker reads the queue {queue.name}"
    match found.place:
        case "deferred":
            return "its lane refuses messages, so it waits outside the queue"
        case "waiting" if found.position > 1:
            return f"{found.position - 1:,} elements are before it in the queue"
        case "waiting":
            return "it is the next element of the queue"
        case place:
            return f"it was {place}, which puts it into its lane"


def _lane(lane: LaneStatus) -> str:
    """Return why the lane sends nothing; empty if it does."""
    if not lane.served:
        return f"no living worker serves {lane.provider}"
    text = next((text for state, text in _OF_LANE.items() if state == lane.state), "")
    return _with_details(text, lane.why, lane.hold) if text else ""


def _with_details(text: str, why: str, hold: float) -> str:
    left = f", for another {rough_duration(max(1.0, hold))}" if hold else ""
    return f"{text}{left}: {why}" if why else f"{text}{left}"
