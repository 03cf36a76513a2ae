"""Decides how many elements to fetch, and how much time the intake leaves to the senders."""

from __future__ import annotations

from collections.abc import Sequence

from relay.engine.intake_tuning import Tuning


class FetchSizer:
    """The size of the next fetch, and backpressure while lanes are full."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._lanes_are_full = False
        self.size = tuning.fetch_size
        """Elements to fetch next."""

    def adapt(self, elements: Sequence[bytes], lanes: int, ready: float) -> None:
        """Adapt to a fetch for so many `lanes`, the emptiest of which now has `ready` messages."""
        tuning, fetched, size = self._tuning, len(elements), sum(map(len, elements))
        is_full_fetch = fetched >= self.size or size >= tuning.large_fetch
        watermark = min(tuning.high_watermark, tuning.high_watermark_bytes * fetched / max(1, size))
        self._lanes_are_full = is_full_fetch and ready > watermark
        self.size = min(max(tuning.fetch_size, tuning.fetch_per_lane * lanes), tuning.max_fetch_size)

    def pause(self, busy: float) -> float:
        """Return the pause after a fetch that took `busy` seconds."""
        return self._tuning.yield_ratio * busy if self._lanes_are_full else 0.0
