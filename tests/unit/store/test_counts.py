"""Sums of statistics, and hashes that another program has written to."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from relay.store.histogram import Histogram
from relay.store.statistics import Counts, GroupCounts, decode, merged

NAMES = st.sampled_from(["a", "b", "größe", "x:y"])
NUMBERS = st.dictionaries(NAMES, st.integers(1, 1000), max_size=4)
HISTOGRAMS = st.lists(st.integers(0, 90_000), max_size=5).map(Histogram.of)
COUNTS = st.builds(
    Counts,
    outcomes=NUMBERS,
    statuses=NUMBERS,
    reasons=NUMBERS,
    delivery=HISTOGRAMS,
    request=HISTOGRAMS,
    held_seconds=NUMBERS,
    sent=st.integers(0, 1000),
    allowed=st.integers(0, 1000),
    oldest_seconds=st.integers(0, 1000),
    backlog=st.integers(0, 1000),
    groups=st.dictionaries(NAMES, st.builds(GroupCounts, st.integers(0, 9), st.integers(0, 9)), max_size=4),
)


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_sums_are_the_same_in_any_steps(counts: list[Counts]) -> None:
    whole = merged(counts)
    assert reduce(lambda one, two: merged([one, two]), counts) == whole
    assert merged(reversed(counts)) == whole
    assert whole.backlog == max(one.backlog for one in counts)
    assert sum(whole.statuses.values()) == sum(sum(one.statuses.values()) for one in counts)


def test_the_sum_of_nothing_is_empty() -> None:
    assert merged([]) == Counts()
    assert Counts().limit_used is None


@given(st.dictionaries(st.binary(max_size=8), st.binary(max_size=8), max_size=6))
def test_foreign_fields_spoil_no_statistics(foreign: dict[bytes, bytes]) -> None:
    own = {
        b"s:200": b"3",
        b"r:a: b": b"2",
        b"d:4": b"1",
        b"d:sum": b"2500",
        b"g:x:y": b"1 2 9",
        b"oldest": b"1500",
    }
    counts = decode({**foreign, **own})
    assert counts.statuses["200"] == 3
    assert counts.reasons["a: b"] == 2
    assert counts.delivery.counts[4] == 1
    assert counts.groups["x:y"] == GroupCounts(1, 2)
    assert counts.oldest_seconds == 1.5
