"""Histograms of durations. All have the same buckets, so those of all workers and times can be added.

Pure. The buckets go from 1 ms to a day; each one is at most two thirds wider than the one before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import add

BOUNDS: tuple[float, ...] = (
    *(float(f"{digit}e{power}") for power in range(-3, 5) for digit in ("1", "1.5", "2", "3", "5", "7")),
    100_000.0,
)
"""The upper bound of each bucket in seconds, which belongs to it. One more bucket has all longer ones."""

BUCKETS = len(BOUNDS) + 1


def bucket_of(seconds: float) -> int:
    """Return the index of the bucket of a duration."""
    return bisect_left(BOUNDS, seconds)


@dataclass(frozen=True, slots=True)
class Histogram:
    """The number of durations in each bucket, and the sum of all in seconds."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    total: float = 0.0

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Histogram:
        """Return the histogram of these durations."""
        counts, total = [0] * BUCKETS, 0.0
        for duration in seconds:
            counts[bucket_of(duration)] += 1
            total += duration
        return cls(tuple(counts), total)

    @classmethod
    def of_many(cls, seconds: Iterable[float]) -> Histogram:
        """The same for many at once: sorting them costs less than a search for the bucket of each.

        Durations below 0 count as 0.
        """
        ordered = sorted(seconds)
        below = [bisect_right(ordered, bound) for bound in BOUNDS]
        counts = (after - before for before, after in pairwise([0, *below, len(ordered)]))
        return cls(tuple(counts), sum(ordered[bisect_left(ordered, 0.0) :]))

    @classmethod
    def of_buckets(cls, counts: Mapping[int, int], total: float) -> Histogram:
        """Return a histogram from the counts by index of their bucket. Unknown indices are ignored."""
        if not counts:
            return EMPTY if total == 0 else cls(EMPTY.counts, total)
        found = [0] * BUCKETS
        for index, number in counts.items():
            if 0 <= index < BUCKETS:
                found[index] = number
        return cls(tuple(found), total)

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean in seconds; None if it is empty."""
        count = self.count
        return self.total / count if count else None

    def __add__(self, other: Histogram) -> Histogram:
        if self is EMPTY:
            return other
        if other is EMPTY:
            return self
        return Histogram(tuple(map(add, self.counts, other.counts)), self.total + other.total)

    def __sub__(self, other: Histogram) -> Histogram:
        """Return the difference from an earlier state of the same histogram."""
        counts = tuple(one - two for one, two in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, max(0.0, self.total - other.total))

    def percentile(self, share: float) -> float | None:
        """Return the duration that this share (0 to 1) of all does not exceed; None if it is empty.

        It is exact to the width of a bucket: within one, durations are taken to be spread evenly.
        """
        count = self.count
        if not count:
            return None
        rank, before = max(share * count, 1e-9), 0
        for index, number in enumerate(self.counts):
            if number and before + number >= rank:
                if index == len(BOUNDS):
                    break
                low = BOUNDS[index - 1] if index else 0.0
                return low + (BOUNDS[index] - low) * (rank - before) / number
            before += number
        return BOUNDS[-1]

    def cumulative(self) -> list[tuple[float, int]]:
        """Return for each bound how many durations do not exceed it; the last bound is infinite."""
        return list(zip((*BOUNDS, float("inf")), accumulate(self.counts), strict=True))


EMPTY = Histogram()
