"""Log lines that repeat themselves: the first immediately, then one for each window, with a count."""

from __future__ import annotations

import pytest
import structlog
from redis.exceptions import NoPermissionError
from structlog.testing import capture_logs

from relay.engine.repeats import OTHERS, RedisTrouble, Repeats
from relay.errors import StoreError
from relay.text import alike


class Clock:
    """Seconds that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repeats(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Repeats:
    monkeypatch.setattr("relay.engine.repeats.logger", structlog.get_logger())
    return Repeats(10.0, clock, most=3)


def refused(cause: str) -> StoreError:
    error = StoreError(f"NOPERM {cause}")
    error.__cause__ = NoPermissionError(cause)
    return error


def test_the_first_line_comes_at_once_and_the_rest_of_the_window_as_one(
    repeats: Repeats, clock: Clock
) -> None:
    with capture_logs() as lines:
        for number in range(9000):
            repeats.log("warning", "dead letter", "fcm", "400: bad token", id=f"m{number}")
        assert lines == [
            {
                "event": "dead letter",
                "log_level": "warning",
                "reason": "400: bad token",
                "id": "m0",
                "count": 1,
            }
        ]
        repeats.flush()
        assert len(lines) == 1
        clock.now += 10
        repeats.flush()
        assert lines[1] == {**lines[0], "count": 8999}
        repeats.log("warning", "dead letter", "fcm", "400: bad token", id="m9000")
        assert len(lines) == 2, "it is counted for the next window"


def test_a_line_after_a_quiet_window_is_logged_at_once(repeats: Repeats, clock: Clock) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            repeats.log("info", "expired", "fcm", "")
            clock.now += 10
            repeats.flush()
    assert [line["count"] for line in lines] == [1, 1]


def test_lines_of_another_provider_event_or_reason_are_lines_of_their_own(repeats: Repeats) -> None:
    with capture_logs() as lines:
        repeats.log("warning", "dead letter", "fcm", "a")
        repeats.log("warning", "dead letter", "fcm", "b")
        repeats.log("warning", "dead letter", "apns", "a")
        repeats.log("warning", "unregistered", "fcm", "a")
    assert len(lines) == 4


def test_the_kinds_of_reasons_are_bounded_and_the_others_are_counted_together(
    repeats: Repeats, clock: Clock
) -> None:
    with capture_logs() as lines:
        for word in ("one", "two", "three", "four", "five", "six", "one"):
            repeats.log("warning", "dead letter", "fcm", word)
        repeats.flush_all()
        assert [(line["reason"], line["count"]) for line in lines] == [
            *(("one", 1), ("two", 1), ("three", 1), (OTHERS, 1)),
            *(("one", 1), (OTHERS, 2)),
        ]
        for _ in range(3):
            clock.now += 10
            repeats.flush()
        repeats.log("warning", "dead letter", "fcm", "seven")
    assert lines[-1]["reason"] == "seven"


def test_a_traceback_is_shown_once(repeats: Repeats) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            repeats.log("error", "the adapter failed", "fcm", "x", exc_info=KeyError("x"))
        repeats.flush_all()
    assert ["exc_info" in line for line in lines] == [True, False]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1234 bytes; the queue takes at most 1024", "99 bytes; the queue takes at most 1024"),
        ("no answer from https://a.example/x?y=1", "no answer from http://b.example"),
        ("token abcdefghijklmnopqrstuvwxyz is gone", "token zyxwvutsrqponmlkjihgfedcba is gone"),
        ("id 0192f0c5-1c1a-7e3b is used", "id 0192f0c5-1c1a-7e3c is used"),
        ('unknown field "a": allowed are b', 'unknown field "other": allowed are b'),
    ],
)
def test_reasons_that_differ_in_urls_tokens_and_ids_are_alike(one: str, other: str) -> None:
    assert alike(one) == alike(other)


def test_reasons_that_differ_in_their_status_or_words_are_not_alike() -> None:
    assert len({alike("400: bad channel"), alike("401: bad channel"), alike("400: bad event")}) == 3
    assert alike("status 429") == "status 429"


def test_an_outage_is_one_line_for_each_message_and_one_when_it_is_over(
    repeats: Repeats, clock: Clock
) -> None:
    trouble = RedisTrouble(repeats, clock)
    with capture_logs() as lines:
        trouble.answered(clock.now)
        for number in range(100):
            trouble.log("cannot claim", StoreError(f"connection {number} refused"), of=f"p{number}")
            trouble.log("no heartbeat", StoreError("reset"))
        trouble.answered(clock.now - 1)
        assert [line["event"] for line in lines] == ["cannot claim", "no heartbeat"]
        assert lines[0]["error"] == "connection 0 refused"
        clock.now += 7
        trouble.answered(clock.now)
        trouble.answered(clock.now)
        assert [(line["event"], line["after"]) for line in lines[2:]] == [("Redis answers again", "7s")]


def test_a_refusal_is_about_one_lane_and_no_outage(repeats: Repeats, clock: Clock) -> None:
    trouble = RedisTrouble(repeats, clock)
    with capture_logs() as lines:
        for name in ("a", "b", "a"):
            trouble.log("cannot settle", refused("this key"), of=name)
        clock.now += 1
        trouble.answered(clock.now)
    assert [line["about"] for line in lines] == ["a", "b"]
