"""The state of a group, computed from its entry, which scripts/parts/group_states.lua writes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from relay.store.pause import Pause
from relay.store.states import GroupState
from relay.text import rfc3339


class _Pause(msgspec.Struct, frozen=True):
    """The state as Redis stores it. Times are in Unix milliseconds."""

    till: float = 0.0
    by: str = ""
    at: float = 0.0
    reason: str = ""


class Entry(msgspec.Struct, frozen=True):
    """The entry of a group in the lane's hash `groups`, without the fields that only scripts need.

    Times are in Unix milliseconds.
    """

    out: bool = False
    full: bool = False
    hold: float = 0.0
    state: str = ""
    reason: str = ""
    failures: float = 0.0
    since: float = 0.0
    paused: _Pause | None = None
    disabled: float = 0.0


NEUTRAL = Entry()
"""A group without an entry."""

_decode = msgspec.msgpack.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a group may send. `hold` is in seconds; 0: no end is known."""

    state: GroupState
    why: str = ""
    hold: float = 0.0


def decode(packed: bytes | None) -> Entry:
    """The entry; one that cannot be read is neutral except for its reason."""
    if packed is None:
        return NEUTRAL
    try:
        return _decode(packed)
    except msgspec.MsgspecError:
        return Entry(reason="its state in Redis cannot be read")


def standing(entry: Entry, now: float, in_flight: int) -> Standing:
    """The state that decides whether the group may send. `now` is Redis's clock in Unix seconds."""
    if entry.disabled:
        since = rfc3339((entry.since or entry.disabled) / 1000)
        return Standing(GroupState.DISABLED, f"nothing but failures since {since}")
    if entry.paused is not None:
        at = entry.paused
        pause = Pause(at.till / 1000, at.at / 1000, at.by, at.reason)
        if pause.holds(now):
            return Standing(GroupState.PAUSED, str(pause), pause.left(now))
    left = max(0.0, entry.hold / 1000 - now)
    if entry.state == "open":
        return Standing(GroupState.OPEN, entry.reason, left)
    if left:
        return Standing(GroupState.THROTTLED, entry.reason, left)
    if entry.full:
        return Standing(GroupState.FULL, f"{in_flight:,} in flight")
    # After a pause or hold, it stays out of the rotation until the next claim.
    if entry.out and not (entry.paused or entry.hold):
        return Standing(GroupState.LIMITED, "its rate")
    return Standing(GroupState.RUNNING, "" if entry.state else entry.reason)
