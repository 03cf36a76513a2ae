"""The request log keeps the latest and counts everything."""

from __future__ import annotations

from relay.sandbox.exchange import Received
from relay.sandbox.request_log import LATEST, SECONDS, UNANSWERED, RequestLog


def a_message(message_id: str = "") -> Received:
    return Received("/webhook", "POST", message_id, "{}")


def test_memory_is_bounded_and_counters_are_not() -> None:
    request_log = RequestLog()
    for number in range(LATEST + 50):
        request_log.add("webhook", 200, [a_message(str(number))])
    assert len(request_log.entries) == LATEST
    assert request_log.accepted("webhook") == LATEST + 50
    assert [entry["message_id"] for entry in request_log.latest(limit=2)] == [
        str(LATEST + 49),
        str(LATEST + 48),
    ]


def test_a_duplicate_is_a_message_that_was_accepted_before() -> None:
    request_log = RequestLog()
    for status, message_id in ((500, "a"), (UNANSWERED, "a"), (200, "a"), (200, "a"), (500, "a"), (200, "")):
        request_log.add("webhook", status, [a_message(message_id)])
    request_log.add("pusher", 200, [a_message("a"), a_message("")])
    stats = request_log.stats()
    names = ("requests", "messages", "accepted", "refused", "unanswered", "duplicates")
    assert [stats["webhook"][name] for name in names] == [6, 6, 3, 2, 1, 1]
    assert [stats["pusher"][name] for name in names] == [1, 2, 2, 0, 0, 0]
    assert stats["webhook"]["statuses"] == {"0": 1, "200": 3, "500": 2}


def test_rates_are_those_of_whole_seconds() -> None:
    now = 1000.0
    request_log = RequestLog(clock=lambda: now)
    for second in range(100):
        now = 1000.0 + second
        request_log.add("webhook", 200, [a_message()] * second)
        request_log.add("webhook", 503, [a_message()] * 7)
    assert request_log.history("webhook") == list(range(99 - SECONDS, 99))
    assert request_log.stats()["webhook"]["rate_per_second"] == 98
    now += 1000
    assert request_log.history("webhook") == [0] * SECONDS
    assert request_log.history("nobody") == [0] * SECONDS


def test_the_busiest_second_is_remembered_beyond_the_history() -> None:
    now = 1000.0
    request_log = RequestLog(clock=lambda: now)
    request_log.add("webhook", 200, [a_message()] * 30)
    request_log.add("webhook", 200, [a_message()] * 20)
    request_log.add("webhook", 503, [a_message()] * 7)
    now += 1000
    request_log.add("webhook", 200, [a_message()] * 40)
    assert request_log.busiest("webhook") == 50
    assert request_log.busiest("nobody") == 0
    request_log.clear()
    assert request_log.busiest("webhook") == 0


def test_both_clocks_are_logged() -> None:
    request_log = RequestLog(clock=lambda: 5.0, wall=lambda: 1700000000.0)
    request_log.add("webhook", 200, [a_message("a")])
    assert request_log.latest() == [
        {
            "at": 1700000000.0,
            "monotonic": 5.0,
            "provider": "webhook",
            "target": "/webhook",
            "event": "POST",
            "message_id": "a",
            "body": "{}",
            "status": 200,
        }
    ]
