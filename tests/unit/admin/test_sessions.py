"""Session cookies and failed attempts, on a clock of the test."""

from __future__ import annotations

import pytest

from relay.admin.attempts import Attempts, AttemptTuning
from relay.admin.sessions import LIFETIME, Role, Sessions

TOKENS = {Role.OPERATOR: "operators-token", Role.VIEWER: "viewers-token"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_cookie_proves_its_role_to_every_process_until_its_end() -> None:
    clock = Clock()
    cookie = Sessions(TOKENS, clock).start(Role.VIEWER)
    other = Sessions(TOKENS, clock)
    found = other.find(cookie)
    assert found is not None
    assert found.role is Role.VIEWER
    clock.now += LIFETIME
    assert other.find(cookie) is None


def test_two_sessions_differ() -> None:
    sessions = Sessions(TOKENS)
    assert sessions.start(Role.OPERATOR) != sessions.start(Role.OPERATOR)


def test_a_changed_cookie_proves_nothing() -> None:
    sessions = Sessions(TOKENS)
    cookie = sessions.start(Role.VIEWER)
    role, identity, until, signature = cookie.split(".")
    forged = [
        "",
        "...",
        "operator",
        cookie[:-1],
        f"{cookie}0",
        f"operator.{identity}.{until}.{signature}",
        f"{role}.{identity}.{int(until) + 1}.{signature}",
        f"{role}.x{identity}.{until}.{signature}",
        f"{role}.{identity}.{until}.",
        f"{role}.{identity}.{until}.\udcff",
        f"\udcff.{identity}.{until}.{signature}",
    ]
    assert [sessions.find(each) for each in forged] == [None] * len(forged)


def test_a_new_token_ends_the_sessions_of_its_role_and_no_other() -> None:
    before = Sessions(TOKENS)
    operator, viewer = before.start(Role.OPERATOR), before.start(Role.VIEWER)
    after = Sessions({**TOKENS, Role.OPERATOR: "another-token"})
    assert after.find(operator) is None
    assert after.find(viewer) is not None


def test_a_session_without_a_token_of_its_role_is_refused() -> None:
    cookie = Sessions(TOKENS).start(Role.VIEWER)
    assert Sessions({Role.OPERATOR: "operators-token", Role.VIEWER: ""}).find(cookie) is None


def test_a_log_out_ends_the_session() -> None:
    sessions = Sessions(TOKENS)
    cookie, other = sessions.start(Role.OPERATOR), sessions.start(Role.OPERATOR)
    session = sessions.find(cookie)
    assert session is not None
    sessions.end(session)
    assert sessions.find(cookie) is None
    assert sessions.find(other) is not None


def test_wrong_tokens_make_their_address_wait() -> None:
    clock = Clock()
    attempts = Attempts(AttemptTuning(burst=3, seconds=6.0), clock)
    for _ in range(3):
        assert attempts.wait("10.0.0.1") == 0
        attempts.failed("10.0.0.1")
    assert attempts.wait("10.0.0.1") == pytest.approx(6.0)
    assert attempts.wait("10.0.0.2") == 0
    clock.now += 6
    assert attempts.wait("10.0.0.1") == 0


def test_one_host_cannot_use_the_many_addresses_of_its_network() -> None:
    attempts = Attempts(AttemptTuning(burst=1), Clock())
    attempts.failed("2001:db8::1")
    assert attempts.wait("2001:db8::ffff:2")
    assert not attempts.wait("2001:db8:0:1::1")


def test_the_memory_for_failures_is_bounded() -> None:
    attempts = Attempts(AttemptTuning(burst=1, addresses=2), Clock())
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        attempts.failed(address)
    assert [bool(attempts.wait(f"10.0.0.{last}")) for last in (1, 2, 3)] == [False, True, True]
