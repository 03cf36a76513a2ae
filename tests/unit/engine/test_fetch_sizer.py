"""The size of fetches, and the time that intake leaves to senders."""

from __future__ import annotations

import math

import pytest

from relay.engine.fetch_sizer import FetchSizer
from relay.engine.intake_tuning import Tuning

TUNING = Tuning(fetch_size=200, fetch_per_lane=10, max_fetch_size=400, high_watermark=1000, yield_ratio=2.0)


def elements(count: int, size: int = 200) -> list[bytes]:
    return [b"x" * size] * count


@pytest.mark.parametrize(("lanes", "size"), [(0, 200), (1, 200), (20, 200), (30, 300), (100, 400)])
def test_a_fetch_is_larger_if_the_previous_one_went_into_many_lanes(lanes: int, size: int) -> None:
    sizer = FetchSizer(TUNING)
    sizer.adapt(elements(200), lanes, 0)
    assert sizer.size == size


@pytest.mark.parametrize(
    ("fetched", "ready", "pause"),
    [
        (200, 1001, 6.0),
        (200, 1000, 0.0),
        (199, 1001, 0.0),
        (200, math.inf, 6.0),
    ],
    ids=["full lanes", "room in a lane", "a fetch that is not full", "malformed elements only"],
)
def test_an_intake_yields_after_a_full_fetch_into_full_lanes(
    fetched: int, ready: float, pause: float
) -> None:
    sizer = FetchSizer(TUNING)
    sizer.adapt(elements(fetched), 1, ready)
    assert sizer.pause(3.0) == pause


def test_an_intake_stops_yielding_if_a_lane_has_room_again() -> None:
    sizer = FetchSizer(TUNING)
    sizer.adapt(elements(200), 1, 5000)
    sizer.adapt(elements(200), 1, 10)
    assert sizer.pause(3.0) == 0.0


@pytest.mark.parametrize(
    ("count", "size", "ready", "pauses"),
    [
        (200, 3 << 10, 1025, True),  # above 3 MiB
        (200, 3 << 10, 1023, False),
        (50, 20_000, 200, True),  # the fetch is full, because it has 1 MiB
        (40, 20_000, 200, False),
    ],
)
def test_an_intake_yields_earlier_while_its_lanes_have_large_messages(
    count: int, size: int, ready: int, pauses: bool
) -> None:
    """A worker still has the payloads of the last ones when it claims them."""
    sizer = FetchSizer(Tuning())
    sizer.adapt(elements(count, size), 1, ready)
    assert (sizer.pause(0.1) > 0) == pauses
