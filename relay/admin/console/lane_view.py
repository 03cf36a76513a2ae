"""A lane as the pages show it."""

from __future__ import annotations

from dataclasses import dataclass

from relay.admin.console.history import NO_HOUR, Hour
from relay.admin.console.sampler import Sample
from relay.admin.console.tones import STATE_TONES, Tone
from relay.operations.summary import is_unserved
from relay.operations.troubles import is_unknown, reason_of
from relay.store.overview import LaneStatus
from relay.store.states import State


@dataclass(frozen=True, slots=True)
class LaneView:
    """One row."""

    lane: LaneStatus
    hour: Hour
    tone: Tone
    why: str
    per_second: float
    """Messages sent per second since the sample before; for the first sample, in the last minute."""

    @property
    def name(self) -> str:
        return self.lane.provider

    @property
    def state(self) -> str:
        return self.lane.state

    @property
    def is_paused(self) -> bool:
        return self.lane.pause is not None

    @property
    def is_held(self) -> bool:
        """Whether `resume` would change anything."""
        return self.lane.state not in (State.RUNNING, "unknown")


def lane_view(lane: LaneStatus, sample: Sample) -> LaneView:
    """Return the view of a lane that was read for a sample, or later."""
    speed = sample.speeds.get(lane.provider, lane.recent.delivered_per_second)
    tone = tone_of(lane)
    if tone is Tone.GOOD and not (lane.backlog or speed):
        tone = Tone.IDLE
    return LaneView(lane, sample.hours.get(lane.provider, NO_HOUR), tone, reason_of(lane), speed)


def tone_of(lane: LaneStatus) -> Tone:
    """Return how serious the state of a lane is."""
    if lane.error or is_unserved(lane) or is_unknown(lane):
        return Tone.BAD
    return STATE_TONES.get(lane.state, Tone.BAD)
