"""The reload requests of operators, as a process sees them with its heartbeats."""

from __future__ import annotations

from relay.cli.reload_requests import ReloadRequests


def reloads(*seen: tuple[float, str | None]) -> list[str]:
    """The requests that cause a reload, of those that are seen at these times."""
    found: list[str] = []
    now = 0.0
    requests = ReloadRequests(found.append, shortest=5.0, clock=lambda: now)
    for at, request in seen:
        now = at
        requests.seen(request)
    return found


def test_a_request_from_before_the_start_reloads_nothing() -> None:
    assert reloads((0, None), (1, "a"), (2, "a"), (30, "a")) == []


def test_a_new_request_reloads_once() -> None:
    assert reloads((0, ""), (1, "a"), (2, "a"), (30, "a")) == ["a"]
    assert reloads((0, "a"), (1, "b"), (2, "b")) == ["b"]


def test_a_request_that_expires_reloads_nothing() -> None:
    assert reloads((0, ""), (1, "a"), (86_401, "")) == ["a"]


def test_a_flood_of_requests_reloads_seldom_and_its_last_one_counts() -> None:
    flood = [(1 + number / 10, str(number)) for number in range(99)]
    assert reloads((0, ""), *flood, (20, "98")) == ["0", "50", "98"]
