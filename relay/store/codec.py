"""Encodes settlements for `settle.lua`, and decodes its reply. The header of the script lists the fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.store.settlement import (
    DeadLettered,
    Delayed,
    DeliveredHeaderless,
    DeliveredOne,
    DeliveredTarget,
    GroupHeld,
    LaneHeld,
    Overdue,
    Refused,
    Released,
    RetryLater,
    Settlement,
    TargetGone,
)

FIRST_BODY = 6
"""Index of the argument with the first body. Bodies are arguments: MessagePack in Redis has no bytes."""

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A group that is held or disabled now, or is served again."""

    group: str
    state: str
    """`throttled`, `open` or `disabled`; empty if it is served again."""
    reason: str
    seconds: float
    """Until the hold ends."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The lane after a settle. `stale` is the number of outcomes that no longer belonged to this worker.
    `hold` is the seconds until the hold ends. `ready` is 0 if nothing may go now."""

    settled: int
    stale: int
    state: str
    """The value of a `State`; empty if the lane does not hold."""
    hold: float
    outbox: int
    ready: int
    reason: str = ""
    """The reason of the hold, if any."""
    groups: Sequence[GroupChange] = ()
    """The groups whose state has changed."""


def settled(reply: Any) -> Settled:
    """Decode the reply of `settle.lua`."""
    number, stale, state, hold, outbox, ready, reason, *rest = reply
    changes = rest[0] if rest else ()
    groups = [
        GroupChange(
            _text(changes[index]),
            _text(changes[index + 1]),
            _text(changes[index + 2]),
            changes[index + 3] / 1000,
        )
        for index in range(0, len(changes), 4)
    ]
    return Settled(number, stale, state.decode(), hold / 1000, outbox, ready, reason.decode(), groups)


def plainly_settled(reply: Any) -> Settled:
    """Decode the reply of `settle_plain.lua` and of `settle_targets.lua`."""
    number, ready, letters = reply
    return Settled(number, 0, "", 0.0, letters, ready)


def encode_plain(settlements: Sequence[Settlement]) -> tuple[bytes, bytes] | None:
    """Encode the arguments of `settle_plain.lua`. Returns None if the script does not suffice."""
    for settlement in settlements:
        if type(settlement) is not DeliveredHeaderless:
            return None
    if not settlements:
        return None
    tickets = [settlement.ticket for settlement in settlements]
    return _encode(tickets), _encode([settlement.fencing_token for settlement in settlements])


def encode_targets(settlements: Sequence[Settlement]) -> tuple[bytes, bytes, bytes] | None:
    """Encode the arguments of `settle_targets.lua`. Returns None if the script does not suffice."""
    by_fan_out: dict[str, list[DeliveredHeaderless | DeliveredTarget]] = {}
    for settlement in settlements:
        if type(settlement) is DeliveredTarget:
            by_fan_out.setdefault(settlement.part_of, []).append(settlement)
        elif type(settlement) is DeliveredHeaderless:
            by_fan_out.setdefault("", []).append(settlement)
        else:
            return None
    if not by_fan_out:
        return None
    tickets = [settlement.ticket for found in by_fan_out.values() for settlement in found]
    tokens = [settlement.fencing_token for found in by_fan_out.values() for settlement in found]
    fan_outs = [value for ticket, found in by_fan_out.items() for value in (ticket, len(found))]
    return _encode(tickets), _encode(tokens), _encode(fan_outs)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def encode(settlements: Sequence[Settlement]) -> tuple[bytes, list[bytes]]:
    """Encode the outcomes as one MessagePack array, and return it with the bodies to which they refer."""
    bodies: list[bytes] = []
    entries = [
        # The common case avoids a call.
        (settlement.ticket, settlement.fencing_token, "p")
        if type(settlement) is DeliveredHeaderless
        else _entry(settlement, bodies)
        for settlement in settlements
    ]
    return _encode(entries), bodies


def _entry(settlement: Settlement, bodies: list[bytes]) -> tuple[object, ...]:
    ticket, token = settlement.ticket, settlement.fencing_token
    match settlement:
        case DeliveredHeaderless():
            return ticket, token, "p"
        case DeliveredTarget():
            return ticket, token, "f", settlement.part_of
        case DeliveredOne():
            answer = settlement.status, settlement.provider_id
            return ticket, token, "d", settlement.attempts, *(answer if any(answer) else ())
        case RetryLater():
            return ticket, token, "r", settlement.delay, settlement.tries, settlement.reason
        case Delayed():
            return ticket, token, "w", settlement.delay, settlement.tries
        case Released():
            return ticket, token, "b", settlement.tries
        case LaneHeld():
            return ticket, token, "t", settlement.tries
        case GroupHeld():
            return ticket, token, "h", settlement.wait, settlement.tries, settlement.reason
        case DeadLettered():
            body = _detach(settlement.body, bodies)
            answered = int(settlement.answered)
            return (
                *(ticket, token, "x", settlement.reason, settlement.status),
                *(body, settlement.attempts, answered, settlement.history),
            )
        case TargetGone():
            return (
                *(ticket, token, "u", settlement.reason, settlement.target),
                *(settlement.since, settlement.message_id, settlement.attempts),
                *(settlement.tries, settlement.again, settlement.status),
            )
        case Refused():
            body = _detach(settlement.body, bodies)
            return (
                *(ticket, token, "s", settlement.reason, settlement.status, body, settlement.attempts),
                *(settlement.target, int(settlement.unregistered), settlement.tries, settlement.again),
                *(settlement.message_id, settlement.state.value),
            )
        case Overdue():
            return ticket, token, "e", settlement.attempts


def _detach(body: bytes, bodies: list[bytes]) -> int:
    bodies.append(body)
    return FIRST_BODY + len(bodies) - 1
