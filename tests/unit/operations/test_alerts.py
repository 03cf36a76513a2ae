"""The conditions that need an operator, when their alerts begin and end, and the messages about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from providers.apprise import Apprise
from relay.operations.alert_rules import Findings, find
from relay.operations.alerts import MOST_GROUPS, advance, alert_document, message_of, outage
from relay.settings.models import AlertSettings
from relay.store.alerts import Alert, AlertBook, AlertEvent
from relay.store.fleet import Member, WorkerInfo
from relay.store.groups import Groups, GroupStatus
from relay.store.overview import LaneStatus, Overview, QueueStatus
from relay.store.pause import Pause
from relay.store.states import GroupState, State
from testing.builders import options
from testing.fake_provider import FakeProvider

NOW = 1_800_000_000.0
RULES = AlertSettings()
NUMBERS: dict[str, Any] = dict.fromkeys(
    ("waiting", "delayed", "in_flight", "dead", "outbox", "outbox_lost"), 0
)
KEY_REFUSED = Alert(alert="unauthorised", provider="hook", why="401")


def lane(state: str = "running", why: str = "", **fields: Any) -> LaneStatus:
    return replace(LaneStatus("hook", state, why, 0.0, **NUMBERS, totals={}), **fields)


def overview(*rows: LaneStatus | QueueStatus) -> Overview:
    return Overview(
        NOW,
        [row for row in rows if isinstance(row, QueueStatus)],
        [row for row in rows if isinstance(row, LaneStatus)],
        [Member(WorkerInfo("w1", "host", "", 7, "1.0", 0.0), 1.0, 0.0)],
    )


def disabled(name: str) -> GroupStatus:
    return GroupStatus(name, GroupState.DISABLED, "404 for 5 days", 0.0, 0, 0, None, 9)


@pytest.mark.parametrize(
    ("row", "alert"),
    [
        (lane(State.UNAUTHORISED, "401 bad key"), "unauthorised"),
        (lane(State.FAULTY, "KeyError"), "faulty"),
        (lane(State.UNREGISTERED, "20 gone"), "unregistered"),
        (lane(State.OPEN, "503"), "breaker_open"),
        (lane(State.PAUSED, pause=Pause(0.0, NOW - 86_401, "ann", "why")), "paused"),
        (lane(oldest_seconds=901.0), "oldest"),
        (lane(served=False, waiting=1), "no_worker"),
        (lane(groups=Groups(1, [disabled("acme")])), "group_disabled"),
        (QueueStatus("q", 1, 0, 0, served=False), "queue_unread"),
        (QueueStatus("q", 1, 0, 0, oldest_seconds=901.0), "oldest"),
    ],
)
def test_each_condition_is_found_in_an_overview(row: LaneStatus | QueueStatus, alert: str) -> None:
    (found,) = find(overview(row), {}, RULES).conditions
    assert found.alert == alert
    assert found.provider == ("hook" if isinstance(row, LaneStatus) else "")
    assert found.queue == ("q" if isinstance(row, QueueStatus) else "")
    assert found.why


@pytest.mark.parametrize(
    "row",
    [
        lane(),
        lane(State.THROTTLED),
        lane(State.TRIAL),
        lane(State.PAUSED, pause=Pause(0.0, NOW - 86_399, "ann", "why")),
        lane(State.PAUSED, pause=Pause(NOW + 60, NOW - 200_000, "ann", "why")),
        lane(State.PAUSED, pause=Pause(0.0, NOW, "ann", "why"), oldest_seconds=5000.0),
        lane(oldest_seconds=899.0),
        lane(served=False, dead=5),
        lane(dead=5000),
        QueueStatus("q", 0, 0, 5, served=False),
        QueueStatus("q", 5, 0, 0, oldest_seconds=10.0),
    ],
)
def test_an_ordinary_state_is_no_condition(row: LaneStatus | QueueStatus) -> None:
    assert find(overview(row), {}, RULES).conditions == ()


def test_more_dead_letters_than_the_limit_are_a_condition() -> None:
    (found,) = find(overview(), {"hook": 101, "other": 100}, RULES).conditions
    assert (found.alert, found.provider, found.value) == ("dead_letters", "hook", 101)


def test_limits_of_zero_turn_rules_off() -> None:
    rules = AlertSettings(dead=0, oldest=0.0)
    assert find(overview(lane(oldest_seconds=1e6)), {"hook": 10**6}, rules).conditions == ()


def run(steps: list[tuple[float, Findings]], muted: str = "alerts") -> list[tuple[str, bool, float]]:
    """The events of checks at these times: kind, whether it is over, time."""
    book = AlertBook()
    for at, findings in steps:
        book = advance(book, findings, NOW + at, 60.0, muted)
    return [(event.alert.alert, event.resolved, event.at - NOW) for event in book.events]


def test_an_alert_fires_once_after_its_condition_has_held_and_once_when_it_is_over() -> None:
    holds, over = Findings((KEY_REFUSED,)), Findings(())
    steps = [
        (0.0, holds),
        (59.0, holds),
        (60.0, holds),
        (70.0, holds),
        (500.0, holds),
        (510.0, over),
        (520.0, over),
    ]
    assert run(steps) == [("unauthorised", False, 60.0), ("unauthorised", True, 510.0)]


def test_a_condition_that_does_not_last_fires_no_alert() -> None:
    holds, over = Findings((KEY_REFUSED,)), Findings(())
    assert run([(0.0, holds), (50.0, over), (60.0, holds), (110.0, holds), (115.0, over)]) == []


def test_an_alert_about_the_provider_of_the_alerts_sends_no_message() -> None:
    holds, over = Findings((KEY_REFUSED,)), Findings(())
    book = advance(AlertBook(), holds, NOW, 0.0, "hook")
    assert [alert.alert for alert in book.firing] == ["unauthorised"]
    assert book.events == ()
    assert advance(book, over, NOW + 1, 0.0, "hook").alerts == ()


def test_an_alert_stays_while_its_lane_cannot_be_read() -> None:
    holds = Findings((KEY_REFUSED,))
    hidden = find(overview(lane("unknown", error="WRONGTYPE")), {}, RULES)
    assert run([(0.0, holds), (60.0, holds), (70.0, hidden), (80.0, Findings(()))])[-1] == (
        "unauthorised",
        True,
        80.0,
    )


def test_an_alert_has_the_present_reason_and_the_first_time() -> None:
    book = advance(AlertBook(), Findings((KEY_REFUSED,)), NOW, 0.0, "")
    later = msgspec.structs.replace(KEY_REFUSED, why="403")
    (alert,) = advance(book, Findings((later,)), NOW + 50, 0.0, "").firing
    assert (alert.why, alert.since) == ("403", NOW)


def test_a_lane_with_many_disabled_groups_fires_a_bounded_number_of_alerts() -> None:
    groups = Groups(5000, [disabled(f"g{number}") for number in range(5000)])
    findings = find(overview(lane(groups=groups)), {}, RULES)
    book = advance(AlertBook(), findings, NOW, 0.0, "")
    assert len(book.events) == MOST_GROUPS
    again = advance(book, findings, NOW + 1, 0.0, "")
    assert (again.alerts, again.events) == (book.alerts, book.events)


def test_numbers_of_events_rise_even_if_the_alerts_are_lost() -> None:
    first = advance(AlertBook(), Findings((KEY_REFUSED,)), NOW, 0.0, "")
    second = advance(AlertBook(), Findings((KEY_REFUSED,)), NOW + 1, 0.0, "")
    assert second.events[0].serial > first.events[-1].serial


def test_a_time_without_workers_is_found_by_the_first_one_that_comes_back() -> None:
    found = outage(NOW - 300, NOW, [NOW - 5, NOW - 4], 60.0)
    assert found is not None
    assert (found.alert, found.since, found.value) == ("no_worker", NOW - 300, 300.0)
    assert "2027-01-15T07:55:00Z to 2027-01-15T08:00:00Z" in found.why
    assert outage(0.0, NOW, [NOW - 5], 60.0) is None  # it never checked before
    assert outage(NOW - 50, NOW, [NOW - 5], 60.0) is None
    assert outage(NOW - 300, NOW, [NOW - 5, NOW - 900], 60.0) is None  # a worker lived all the time


def test_the_message_of_an_alert_has_the_documented_fields() -> None:
    alert = msgspec.structs.replace(KEY_REFUSED, since=NOW - 720, value=3.0)
    begin, end = alert_document(alert), alert_document(alert, resolved=True, at=NOW)
    assert begin["text"] == (
        "FIRING hook: the provider refuses our credentials: 401 (since 2027-01-15T07:48:00Z)"
    )
    assert end["text"] == "RESOLVED hook: no longer: the provider refuses our credentials, after 12m"
    assert (begin["alert"], begin["provider"], begin["group"], begin["status"]) == (
        "unauthorised",
        "hook",
        "",
        "firing",
    )
    assert (begin["since"], begin["why"], begin["value"]) == (NOW - 720, "401", 3.0)
    assert (end["status"], begin["action"], end["action"]) == ("resolved", "trigger", "resolve")
    assert begin["key"] == end["key"]


def test_the_id_of_a_message_is_valid_with_any_name_of_a_group() -> None:
    event = AlertEvent(
        serial=1, alert=Alert(alert="group_disabled", provider="p" * 64, group="ж" * 300, since=NOW), at=NOW
    )
    message = message_of(event, FakeProvider(options()))
    assert len(message.id) <= 128
    assert message.id.isascii()
    assert message.payload["group"] == "ж" * 300


def test_apprise_gets_a_title_and_a_body() -> None:
    adapter: Any = Apprise(
        "mail", Apprise.Options.model_validate({"type": "apprise", "url": "json://localhost"})
    )
    for resolved, kind in ((False, "failure"), (True, "success")):
        event = AlertEvent(serial=1, alert=KEY_REFUSED, resolved=resolved, at=NOW)
        message = message_of(event, adapter)
        assert adapter.check(message) is None
        assert message.payload["title"] in ("FIRING hook", "RESOLVED hook")
        assert message.payload["type"] == kind
