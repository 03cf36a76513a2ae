"""The states of a lane, as Redis keeps them and `relay status` shows them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The state of a lane for the whole fleet."""

    RUNNING = "running"
    PAUSED = "paused"
    """Paused by an operator."""
    THROTTLED = "throttled"
    """The provider asked relay to wait."""
    OPEN = "open"
    """The breaker is open, because the provider fails."""
    TRIAL = "trial"
    """The provider refused a message; the lane tries others, one at a time, to find the cause."""
    UNAUTHORISED = "unauthorised"
    """The provider refuses our credentials, or a fixed address."""
    UNREGISTERED = "unregistered"
    """Too many targets in a row are unregistered."""
    FAULTY = "faulty"
    """The adapter fails on every message."""


class GroupState(StrEnum):
    """The state of a group within its lane, for the whole fleet."""

    RUNNING = "running"
    LIMITED = "limited"
    """It has sent as much as its rate allows."""
    FULL = "full"
    """It has as many messages in flight as its `concurrency` allows."""
    THROTTLED = "throttled"
    """The destination asked to wait."""
    OPEN = "open"
    """The breaker is open: the destination fails."""
    PAUSED = "paused"
    """By an operator."""
    DISABLED = "disabled"
    """It failed for so long that its messages become dead letters."""
