"""The present rates of a lane, and when its backlog will be gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.store.lane_status import LaneStatus
from relay.store.recent import Recent, recent
from relay.store.states import State
from relay.store.statistics import Counts

NOW = 100 * 60 + 40.0
LANE = LaneStatus("hook", State.RUNNING, "", 0, 100, 5, 20, 0, 0, 0, {})


def minute(ago: int, **outcomes: int) -> tuple[int, Counts]:
    return (100 - ago) * 60, Counts(outcomes=outcomes)


def test_a_lane_without_statistics_does_nothing() -> None:
    assert recent([], NOW) == Recent()


def test_errors_and_throttled_attempts_are_those_of_the_last_minute() -> None:
    found = recent([minute(2, failed=900), minute(1, delivered=60, retried=20), minute(0, throttled=20)], NOW)
    assert found.delivered_per_second == pytest.approx(0.6)
    assert found.errors_per_second == pytest.approx(0.2)
    assert found.throttled_share == pytest.approx(0.2)


def test_a_backlog_shrinks_by_the_messages_that_end_minus_those_that_arrive() -> None:
    found = recent([minute(1, delivered=150, expired=50, accepted=60, revived=40), minute(0)], NOW)
    assert found.drained_per_second == pytest.approx(1.0)
    lane = replace(LANE, recent=found)
    assert lane.empty_in_seconds == pytest.approx(120), "delayed messages are not counted"
    assert replace(lane, state=State.THROTTLED, hold=30.0).empty_in_seconds == pytest.approx(150)


@pytest.mark.parametrize("state", [State.PAUSED, State.UNAUTHORISED, State.FAULTY])
def test_a_lane_that_holds_without_an_end_is_never_empty(state: State) -> None:
    assert replace(LANE, state=state, recent=Recent(drained_per_second=9.0)).empty_in_seconds is None


def test_a_backlog_that_grows_is_never_gone_and_an_empty_lane_is_empty_now() -> None:
    growing = recent([minute(0, delivered=10, accepted=30)], NOW)
    assert replace(LANE, recent=growing).empty_in_seconds is None
    assert replace(LANE, waiting=0, in_flight=0, recent=growing).empty_in_seconds == 0
