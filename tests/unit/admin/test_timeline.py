"""The timeline of a lane: the beginning, end and author of each entry."""

from __future__ import annotations

import pytest

from relay.admin.console.timeline import ends, events
from relay.store.audit import AuditEntry
from relay.store.holds import Hold

SET = AuditEntry("rate", "ann@ops1", "hook", why="20/s", until=500.0, at=100.0)


def texts(*orders: AuditEntry, start: float = 0.0, now: float = 1000.0) -> list[tuple[float, str, str]]:
    """Return the ends of these orders, which are in the order of their times."""
    return [(end.at, end.text, end.detail) for end in ends(reversed(orders), start, now)]


def test_a_rate_that_ends_on_its_own_has_an_end_in_the_timeline() -> None:
    assert texts(SET) == [(500.0, "the rate has ended", "at the time that ann@ops1 set")]


@pytest.mark.parametrize(
    "later",
    [
        AuditEntry("rate-reset", "ben@ops2", "hook", at=499.0),
        AuditEntry("rate", "ben@ops2", "hook", why="30/s", at=499.0),
    ],
    ids=["reset", "replaced"],
)
def test_a_rate_that_an_operator_ends_first_does_not_end_on_its_own(later: AuditEntry) -> None:
    assert texts(SET, later) == []
    assert len(texts(SET, AuditEntry("pause", "ben@ops2", "hook", at=499.0))) == 1


@pytest.mark.parametrize(("start", "now"), [(0.0, 499.0), (501.0, 1000.0)], ids=["goes on", "earlier"])
def test_an_end_outside_of_the_page_s_time_is_not_in_the_timeline(start: float, now: float) -> None:
    assert texts(SET, start=start, now=now) == []


def test_a_pause_of_a_group_that_ends_on_its_own_has_an_end_and_that_of_the_lane_is_a_hold() -> None:
    paused = AuditEntry("pause", "ann", "hook", "tenant-7", until=500.0, at=100.0)
    other = AuditEntry("resume", "ann", "hook", "tenant-8", at=300.0)
    lane = AuditEntry("pause", "ann", "hook", until=600.0, at=200.0)
    assert texts(paused, lane, other) == [
        (500.0, "the pause of tenant-7 has ended", "at the time that ann set")
    ]
    assert texts(paused, AuditEntry("resume", "ann", "hook", "tenant-7", at=300.0)) == []


def test_holds_actions_and_ends_stand_in_the_order_of_their_times() -> None:
    reload = AuditEntry("reload", "SIGHUP@web-1", at=450.0)
    found = events([Hold("open", 470.0, 480.0, "refused")], None, [reload, SET], ends([SET], 0.0, 1000.0))
    assert [event.text for event in found] == ["the rate has ended", "open for 10s", "reload", "rate"]
    assert found[2].detail == "SIGHUP@web-1"
