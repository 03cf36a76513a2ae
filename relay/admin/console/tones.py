"""The only colours of the console: how a state is to be taken."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from relay.store.findings import Level
from relay.store.states import GroupState, State


class Tone(StrEnum):
    """The severity of a condition."""

    GOOD = "good"
    IDLE = "idle"
    """Nothing happens, and nothing is wrong."""
    HELD = "held"
    """By an operator's order."""
    WARN = "warn"
    """It ends on its own, or may become serious."""
    BAD = "bad"
    """Somebody has to act."""


STATE_TONES: Final[Mapping[str, Tone]] = {
    State.RUNNING: Tone.GOOD,
    State.PAUSED: Tone.HELD,
    State.THROTTLED: Tone.WARN,
    State.TRIAL: Tone.WARN,
    State.OPEN: Tone.BAD,
    State.UNAUTHORISED: Tone.BAD,
    State.UNREGISTERED: Tone.BAD,
    State.FAULTY: Tone.BAD,
    GroupState.LIMITED: Tone.GOOD,
    GroupState.FULL: Tone.WARN,
    GroupState.DISABLED: Tone.BAD,
}
"""By state of a lane or a group."""

LEVEL_TONES: Final[Mapping[Level, Tone]] = {
    Level.OK: Tone.GOOD,
    Level.UNKNOWN: Tone.IDLE,
    Level.WARNING: Tone.WARN,
    Level.FAILED: Tone.BAD,
}

RANKS: Final = {Tone.BAD: 0, Tone.WARN: 1, Tone.HELD: 2, Tone.GOOD: 3, Tone.IDLE: 4}
"""Trouble first."""
