"""How a delivery attempt ended for a message in its lane: a closed union of plain frozen data.

`relay.engine.policy` decides, `relay.store.codec` encodes for `settle.lua`. Durations are in milliseconds.
`tries` are the counters to store with a message that waits again: see `Claim.tries`.
"""

from __future__ import annotations

import msgspec

from relay.store.states import State


class _Settlement(msgspec.Struct, frozen=True, gc=False):
    ticket: str
    fencing_token: str
    """Of the claim that handed out the message: later claims make it stale."""


class DeliveredHeaderless(_Settlement, frozen=True, gc=False):
    """The provider accepted a message whose record has no header: the common case."""


class DeliveredOne(_Settlement, frozen=True, gc=False):
    """The provider accepted the message."""

    attempts: int


class RetryLater(_Settlement, frozen=True, gc=False):
    """The attempt failed; the message waits for the next one."""

    delay: int
    tries: str
    reason: str


class Delayed(_Settlement, frozen=True, gc=False):
    """Our own process could not send the message; it waits."""

    delay: int
    tries: str


class Released(_Settlement, frozen=True, gc=False):
    """The message goes back to the head of the lane, and no attempt is spent."""

    tries: str


class DestinationHeld(_Settlement, frozen=True, gc=False):
    """The destination asked to wait. `wait` 0: the destination's own, growing wait."""

    wait: int
    tries: str


class DeadLettered(_Settlement, frozen=True, gc=False):
    """The message becomes a dead letter. `answered`: the provider answered, so that it is no failure of its
    own."""

    reason: str
    status: int
    body: bytes
    attempts: int
    answered: bool


class TargetGone(_Settlement, frozen=True, gc=False):
    """The target is unregistered. `since` is the Unix time in seconds from which it is, or 0."""

    reason: str
    target: str
    since: float
    message_id: str
    attempts: int
    tries: str
    again: int
    """How often the message was tried again after a refusal: see `Claim.again`."""


class Refused(_Settlement, frozen=True, gc=False):
    """The provider refused the message, by the message's fault or by ours: its lane finds out.

    If the message is at fault, it ends as unregistered or as a dead letter; if we are, the lane holds in
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
    | DeliveredOne
    | RetryLater
    | Delayed
    | Released
    | DestinationHeld
    | DeadLettered
    | TargetGone
    | Refused
    | Overdue
)
