"""The end of a delivery attempt, for the lane: a closed union of plain frozen data.

`relay.engine.policy` decides, `relay.store.codec` encodes for `settle.lua`. Durations are in milliseconds.
`tries` are the counters to store with a message that waits again: see `Claim.tries`.
"""

from __future__ import annotations

import msgspec

from relay.store.states import State


class _Settlement(msgspec.Struct, frozen=True, gc=False):
    ticket: str
    fencing_token: str
    """The token of the claim. A later claim of the message makes it stale."""


class DeliveredHeaderless(_Settlement, frozen=True, gc=False):
    """The provider accepted a message whose record has no header: the common case."""


class DeliveredTarget(_Settlement, frozen=True, gc=False):
    """The provider accepted one target of the fan-out with the ticket `part_of`: only its number counts."""

    part_of: str


class DeliveredOne(_Settlement, frozen=True, gc=False):
    """The provider accepted the message. `status` and `provider_id` are for its receipt, if it gets one."""

    attempts: int
    status: int = 0
    provider_id: str = ""


class RetryLater(_Settlement, frozen=True, gc=False):
    """The attempt failed; the message waits for the next one."""

    delay: int
    tries: str
    reason: str


class Delayed(_Settlement, frozen=True, gc=False):
    """This process could not send the message, or the provider limits its target: only this message waits."""

    delay: int
    tries: str


class Released(_Settlement, frozen=True, gc=False):
    """The message returns to the head of the lane, and no attempt is spent."""

    tries: str


class LaneHeld(_Settlement, frozen=True, gc=False):
    """The provider asks the lane to wait: see `relay.store.lane.Hold`. After the hold, the message goes
    behind those that wait."""

    tries: str


class GroupHeld(_Settlement, frozen=True, gc=False):
    """The provider asks the message's group to wait. `wait` 0: the group's own, growing wait."""

    wait: int
    tries: str
    reason: str


class DeadLettered(_Settlement, frozen=True, gc=False):
    """The message becomes a dead letter. `answered`: the provider answered, so this is no failure of the
    provider."""

    reason: str
    status: int
    body: bytes
    attempts: int
    answered: bool
    history: str = ""
    """The failed attempts, this one included: see `relay.store.attempts`."""


class TargetGone(_Settlement, frozen=True, gc=False):
    """The target is unregistered. `since` is the time of that in Unix seconds, or 0."""

    reason: str
    target: str
    since: float
    message_id: str
    attempts: int
    tries: str
    again: int
    """The number of retries after a refusal: see `Claim.again`."""
    status: int = 0


class Refused(_Settlement, frozen=True, gc=False):
    """The provider refused the message, because of the message or of our configuration: the lane finds out.

    In the first case, the message ends as unregistered or as a dead letter; in the second, the lane holds in
    `state`.
    """

    reason: str
    status: int
    body: bytes
    attempts: int
    target: str
    unregistered: bool
    message_id: str
    tries: str
    again: int
    state: State


class Overdue(_Settlement, frozen=True, gc=False):
    """The message expired before it was sent."""

    attempts: int


Settlement = (
    DeliveredHeaderless
    | DeliveredTarget
    | DeliveredOne
    | RetryLater
    | Delayed
    | Released
    | LaneHeld
    | GroupHeld
    | DeadLettered
    | TargetGone
    | Refused
    | Overdue
)
