"""Decides how many elements to fetch, and when senders need the time more than intake does."""

from __future__ import annotations

from relay.engine.intake_tuning import Tuning


class BatchSizer:
    """The size of the next fetch, and backpressure while lanes are full."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._lanes_are_full = False
        self.size = tuning.fetch_size
        """Elements to fetch next."""

    def adapt(self, fetched: int, lanes: int, ready: float) -> None:
        """Learn from a fetch that went into `lanes`, of which the emptiest now has `ready` messages."""
        tuning = self._tuning
        self._lanes_are_full = fetched >= self.size and ready > tuning.high_watermark
        self.size = min(max(tuning.fetch_size, tuning.fetch_per_lane * lanes), tuning.max_fetch_size)

    def pause(self, busy: float) -> float:
        """Return the seconds to leave to the senders after a fetch that kept the intake busy for `busy`
        seconds."""
        return self._tuning.yield_ratio * busy if self._lanes_are_full else 0.0
