"""The vitals that a worker publishes with each heartbeat: its load, its duty, the flow of its queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

FLOW_SECONDS = 10.0
"""Elements per second are counted over this time."""

SHARE_SECONDS = 60.0
"""The share of malformed elements is counted over this time."""


class Duty(StrEnum):
    """Whether a worker takes messages."""

    SERVING = "serving"
    DRAINING = "draining"
    """An operator wants it to stop; it finishes the messages in flight."""
    DRAINED = "drained"
    """It holds nothing and takes nothing, until an operator ends that or its process ends."""


class QueueFlow(msgspec.Struct, frozen=True):
    """The elements that one worker has taken from a queue."""

    per_second: float
    """Over the last `FLOW_SECONDS`."""
    taken: int
    """Within the last `SHARE_SECONDS`."""
    malformed: int
    """Those of `taken` that are no valid messages."""


NO_FLOW = QueueFlow(0.0, 0, 0)


class Vitals(msgspec.Struct, frozen=True):
    """The state of one worker."""

    cpu: float
    """The share of a core that its process has used since the heartbeat before."""
    memory: int
    """Bytes of its process that are in memory."""
    in_flight: int
    """Messages that it has claimed and not settled yet."""
    duty: Duty = Duty.SERVING
    queues: Mapping[str, QueueFlow] = {}
    """By name, those from which it has taken something lately."""


def total(flows: Iterable[QueueFlow]) -> QueueFlow:
    """Return the flow of a queue over several workers."""
    per_second, taken, malformed = 0.0, 0, 0
    for flow in flows:
        per_second += flow.per_second
        taken += flow.taken
        malformed += flow.malformed
    return QueueFlow(per_second, taken, malformed)
