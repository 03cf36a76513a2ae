"""Counters of worker processes since their start, for `/metrics`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

KeyT = TypeVar("KeyT")


class Durations(msgspec.Struct, frozen=True):
    """A histogram: the number of durations in each bucket of `relay.store.histogram`, and their sum."""

    buckets: Mapping[int, int] = {}
    """By index of the bucket, without empty ones."""
    seconds: float = 0.0

    def __add__(self, other: Durations) -> Durations:
        return Durations(added([self.buckets, other.buckets]), self.seconds + other.seconds)


class LaneCounts(msgspec.Struct, frozen=True):
    """The attempts of one lane."""

    results: Mapping[str, int] = {}
    """Attempts by result: `delivered`, or the outcome of a failed one in the journal."""
    delivery: Mapping[str, Durations] = {}
    """Push to acceptance, by the class of the answer's status: `2xx`, or `none` if it has none."""
    request: Mapping[str, Durations] = {}
    """Requests, likewise."""

    def __add__(self, other: LaneCounts) -> LaneCounts:
        return LaneCounts(
            added([self.results, other.results]),
            _merged(self.delivery, other.delivery),
            _merged(self.request, other.request),
        )


NO_LANE_COUNTS = LaneCounts()


class ProcessCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of one process, or the sums of several."""

    failures: Mapping[str, int] = {}
    """The number of restarts of each part (`lane pusher`, `queue hits`, …) after an unexpected exception."""
    reconnections: int = 0
    """The number of times that all connections to Redis were dropped because of a stall."""
    log_lines_dropped: int = 0
    """Log lines that could not be written: a full disk, a closed or blocked pipe."""
    lanes: Mapping[str, LaneCounts] = {}

    def __add__(self, other: ProcessCounts) -> ProcessCounts:
        lanes = {**self.lanes}
        for name, counts in other.lanes.items():
            lanes[name] = lanes[name] + counts if name in lanes else counts
        return ProcessCounts(
            failures=added([self.failures, other.failures]),
            reconnections=self.reconnections + other.reconnections,
            log_lines_dropped=self.log_lines_dropped + other.log_lines_dropped,
            lanes=lanes,
        )


NO_COUNTS = ProcessCounts()


def added(counts: Iterable[Mapping[KeyT, int]]) -> dict[KeyT, int]:
    """Return the sums by key."""
    total: dict[KeyT, int] = {}
    for one in counts:
        for key, number in one.items():
            total[key] = total.get(key, 0) + number
    return total


def status_class(status: int) -> str:
    """Return `2xx` for 204; `none` if there is no status."""
    return f"{status // 100}xx" if 100 <= status < 1000 else "none"


def _merged(one: Mapping[str, Durations], other: Mapping[str, Durations]) -> dict[str, Durations]:
    merged = {**one}
    for name, durations in other.items():
        merged[name] = merged[name] + durations if name in merged else durations
    return merged
