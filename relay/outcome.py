"""The outcomes of one attempt at a delivery: plain frozen data, a closed union.

Adapters return these; `relay.engine.policy` turns each into a settlement of its message and a state of its
lane.
"""

from __future__ import annotations

from typing import Literal

import msgspec

BODY_LIMIT = 4096
"""Bytes of a provider's answer that are kept with a dead letter."""


ThrottleScope = Literal["provider", "target"]
"""The scope of a request to slow down: all messages, or those with the same receiver."""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The provider accepted the message. `provider_id` is its own name for it, if it gives one."""

    provider_id: str = ""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Worth another attempt later: network error, timeout, 408, 5xx. Spends an attempt.

    `after` (seconds) is the wait that the provider asks for; it replaces the backoff unless it is 0.
    """

    reason: str
    status: int = 0
    body: bytes = b""
    after: float | None = None


class Throttled(msgspec.Struct, frozen=True, gc=False):
    """The provider asks to slow down: 429, or 503 with Retry-After. Spends no attempt.

    The whole fleet holds the provider for `after` seconds, or the message's group if the lane has groups;
    None or 0: the lane's own backoff. With the scope `target`, the provider limits only the receiver of this
    message (a device, a chat): the message waits `after` seconds (None or 0: the backoff of its retries), and
    nothing else does.
    """

    reason: str
    after: float | None = None
    status: int = 0
    body: bytes = b""
    scope: ThrottleScope = "provider"


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The provider will never accept this message: it becomes a dead letter immediately."""

    reason: str
    status: int = 0
    body: bytes = b""


class Unregistered(msgspec.Struct, frozen=True, gc=False):
    """The target (device token, subscription, endpoint) is gone: feedback, no dead letter.

    `since` is the time of that according to the provider, in Unix seconds, if it reports one.
    """

    target: str
    reason: str = ""
    status: int = 0
    since: float | None = None


class Unauthorised(msgspec.Struct, frozen=True, gc=False):
    """The provider refused our credentials, our account or a fixed address, or only this message: one answer
    does not show which.

    The lane tries other messages. If the provider accepts one of them, this message is at fault and ends with
    `reason`: as unregistered with feedback about `target` if `unregistered` is set, otherwise as rejected. If
    the provider refuses several different targets and accepts none in between, the lane holds and logs an
    error. Spends no attempt.

    `target` is the receiver of the message (a device token, a subscription, a channel): two refusals of one
    target count once. Empty: every message has a different target.
    """

    reason: str
    status: int = 0
    body: bytes = b""
    target: str = ""
    unregistered: bool = False


class Isolate(msgspec.Struct, frozen=True, gc=False):
    """The batch failed as a whole, and one message may be to blame: send each one separately.

    Only for batches of two or more. Spends no attempt; each message passes the rate limit again.
    """

    reason: str = ""


class Postponed(msgspec.Struct, frozen=True, gc=False):
    """This process could not send, because it lacks descriptors or memory. Spends no attempt, and blames no
    message."""

    reason: str
    after: float = 1.0


class Faulty(msgspec.Struct, frozen=True, gc=False):
    """The adapter failed because of a bug. The engine returns this; adapters do not. Spends no attempt.

    If the adapter works for other messages, this one becomes a dead letter; otherwise the lane holds.
    """

    reason: str


Failure = Retry | Throttled | Rejected | Unregistered | Unauthorised | Isolate | Faulty
Outcome = Delivered | Postponed | Failure
