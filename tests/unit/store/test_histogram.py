"""Histograms: they add up, and their percentiles are exact to the width of a bucket."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.store.histogram import BOUNDS, BUCKETS, EMPTY, Histogram, bucket_of

DURATIONS = st.lists(st.floats(min_value=0, max_value=200_000), max_size=50)


def test_buckets_go_from_a_millisecond_to_a_day() -> None:
    assert BOUNDS[0] == 0.001
    assert BOUNDS[-1] >= 86_400
    assert sorted(set(BOUNDS)) == list(BOUNDS)
    assert all(high / low < 1.7 for low, high in pairwise(BOUNDS))


@given(DURATIONS, DURATIONS)
def test_a_sum_is_the_histogram_of_all_durations(one: list[float], two: list[float]) -> None:
    whole, added = Histogram.of(one + two), Histogram.of(one) + Histogram.of(two)
    assert added.counts == whole.counts
    assert added.count == len(one) + len(two)
    assert added.total == pytest.approx(whole.total)


@given(st.lists(st.floats(min_value=0, max_value=200_000) | st.sampled_from(BOUNDS)))
def test_many_durations_at_once_count_as_one_by_one(durations: list[float]) -> None:
    one_by_one, at_once = Histogram.of(durations), Histogram.of_many(durations)
    assert at_once.counts == one_by_one.counts
    assert at_once.total == pytest.approx(one_by_one.total)


def test_durations_below_zero_count_as_zero() -> None:
    """The clock of a producer may be ahead."""
    histogram = Histogram.of_many([-5.0, 2.0])
    assert (histogram.counts[0], histogram.count, histogram.total) == (1, 2, 2.0)


@given(st.lists(st.floats(min_value=0, max_value=99_000), min_size=1, max_size=50), st.floats(0.001, 1))
def test_a_percentile_is_within_the_bucket_of_the_exact_one(durations: list[float], share: float) -> None:
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    found, place = Histogram.of(durations).percentile(share), bucket_of(exact)
    assert found is not None
    assert (BOUNDS[place - 1] if place else 0.0) <= found <= BOUNDS[place]


@given(DURATIONS)
def test_percentiles_grow_with_their_share(durations: list[float]) -> None:
    histogram = Histogram.of(durations)
    found = [histogram.percentile(share) or 0.0 for share in (0.0, 0.25, 0.5, 0.95, 0.99, 1.0)]
    assert found == sorted(found)


@given(DURATIONS)
def test_the_last_cumulative_count_is_that_of_all(durations: list[float]) -> None:
    cumulative = Histogram.of(durations).cumulative()
    assert len(cumulative) == BUCKETS
    assert cumulative[-1] == (float("inf"), len(durations))


def test_an_empty_histogram_has_no_percentile_and_no_mean() -> None:
    assert EMPTY.percentile(0.5) is None
    assert EMPTY.mean is None


def test_durations_beyond_the_last_bucket_count_as_its_bound() -> None:
    assert Histogram.of([1e9]).percentile(0.5) == BOUNDS[-1]


def test_the_upper_half_of_a_bucket_is_above_its_middle() -> None:
    assert Histogram.of([1.2] * 100).percentile(0.5) == pytest.approx(1.25)
