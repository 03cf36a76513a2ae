"""The attempts of one lane in this process, since its start."""

from __future__ import annotations

from relay.admin.counts import Durations, LaneCounts, status_class
from relay.store.histogram import EMPTY, Histogram
from relay.store.recording import histogram_fields

CLASSES = 10
"""Classes of HTTP statuses: 2 for 200 to 299. 0: there was no answer, or it has no status."""


class Attempts:
    """Counts that only grow."""

    def __init__(self) -> None:
        self.delivered = 0
        self.failures: dict[str, int] = {}
        """Attempts that did not deliver, by outcome in the journal."""
        self.statuses: dict[int, int] = {}
        """Messages by the HTTP status of the answer, if it is known."""
        self.delivery = [EMPTY] * CLASSES
        """Seconds from the push of a message until the provider accepted it, by class of the status."""
        self.request = [EMPTY] * CLASSES
        """Seconds that requests took."""

    def counts(self) -> LaneCounts:
        """Return them for `/metrics`."""
        results = {"delivered": self.delivered} if self.delivered else {}
        return LaneCounts({**results, **self.failures}, _durations(self.delivery), _durations(self.request))

    def count_status(self, status: int, number: int = 1) -> None:
        """Count messages with an answer; 0: the status is unknown."""
        if 100 <= status < 1000:
            self.statuses[status] = self.statuses.get(status, 0) + number

    def copy(self) -> Attempts:
        copy = Attempts()
        copy.delivered, copy.failures, copy.statuses = self.delivered, {**self.failures}, {**self.statuses}
        copy.delivery, copy.request = [*self.delivery], [*self.request]
        return copy

    def growth(self, before: Attempts) -> dict[str, int]:
        """Return the fields of the statistics (see `record.lua`) that have grown since then."""
        counts = {
            f"s:{status}": number - before.statuses.get(status, 0)
            for status, number in self.statuses.items()
            if number != before.statuses.get(status, 0)
        }
        delivery, request = _growth(self.delivery, before.delivery), _growth(self.request, before.request)
        return {**counts, **histogram_fields("d", delivery), **histogram_fields("q", request)}


def _durations(histograms: list[Histogram]) -> dict[str, Durations]:
    """Return the histograms that are not empty, by class of the status."""
    return {
        status_class(100 * index): Durations(
            {bucket: number for bucket, number in enumerate(histogram.counts) if number}, histogram.total
        )
        for index, histogram in enumerate(histograms)
        if histogram is not EMPTY
    }


def _growth(now: list[Histogram], before: list[Histogram]) -> Histogram:
    """Return the durations since then, of all classes of the status."""
    grown = (one - two for one, two in zip(now, before, strict=True) if one is not two)
    return sum(grown, EMPTY)
