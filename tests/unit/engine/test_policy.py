"""The effect of each outcome on the message and its lane."""

from __future__ import annotations

from statistics import mean
from typing import Any

import msgspec
import pytest

from providers.webhook import WebhookOptions
from relay.engine.policy import LONGEST_HOLD, Policy
from relay.outcome import (
    Delivered,
    Faulty,
    Isolate,
    Outcome,
    Postponed,
    Rejected,
    Retry,
    Throttled,
    Unauthorised,
    Unregistered,
)
from relay.settings.options import RetryOptions
from relay.store.attempts import Attempt, encode
from relay.store.claims import Claim, Hold
from relay.store.settlement import (
    DeadLettered,
    Delayed,
    DeliveredHeaderless,
    DeliveredOne,
    DeliveredTarget,
    GroupHeld,
    LaneHeld,
    Refused,
    Released,
    RetryLater,
    TargetGone,
)
from relay.store.states import State
from testing.builders import a_message, options, plain_message


def a_claim(*, attempts: int = 0, alone: bool = False) -> Claim:
    return Claim("8", "3", a_message("order-17", attempts=attempts), deliveries=2, crashes=1, isolated=alone)


def policy(**fields: Any) -> Policy:
    return Policy(options(**fields), "w1", lambda: 1000.0)


def history(status: int, reason: str) -> str:
    """One failed attempt of `policy`, as Redis keeps it."""
    return encode([Attempt(1000.0, status, reason, "w1")])


def test_a_message_that_this_process_could_not_send_waits_and_spends_no_attempt() -> None:
    settlement = policy(retry=RetryOptions(attempts=1)).settle(a_claim(), Postponed("no descriptor", 1.5))
    assert settlement == Delayed("8", "3", 1500, "0:3:1:0")


def test_a_delivery_is_the_end() -> None:
    assert policy().settle(a_claim(), Delivered()) == DeliveredOne("8", "3", 1)


def test_the_delivery_of_a_message_without_a_header_needs_no_look_at_its_record() -> None:
    claim = Claim("8", "3", plain_message("hello"), headerless=True)
    assert policy().settle(claim, Delivered()) == DeliveredHeaderless("8", "3")


def test_the_delivery_of_a_fan_out_s_target_counts_for_the_fan_out() -> None:
    claim = Claim("8", "3", a_message(part_of="4"), part_of="4")
    assert policy().settle(claim, Delivered()) == DeliveredTarget("8", "3", "4")


def test_a_retry_spends_an_attempt_and_waits() -> None:
    settlement = policy().settle(a_claim(attempts=1), Retry("503"))
    assert isinstance(settlement, RetryLater)
    assert (settlement.tries, settlement.reason) == (f"2:3:1:0 {history(0, '503')}", "503")
    assert 1 <= settlement.delay <= 2000


def test_the_provider_s_own_wish_wins_over_the_backoff() -> None:
    settlement = policy().settle(a_claim(), Retry("503", after=7.5))
    assert isinstance(settlement, RetryLater)
    assert settlement.delay == 7500


def test_the_last_attempt_is_a_dead_letter_with_the_answer() -> None:
    outcome = Retry("500 oops", status=500, body=b"y" * 5000)
    settlement = policy(retry={"attempts": 3}).settle(a_claim(attempts=2), outcome)
    reason = "gave up after 3 attempts: 500 oops"
    kept = history(500, "500 oops")
    assert settlement == DeadLettered("8", "3", reason, 500, b"y" * 4096, 3, answered=False, history=kept)


def test_throttling_holds_the_lane_and_spends_nothing() -> None:
    outcome = Throttled("429", after=30)
    assert policy().settle(a_claim(attempts=2), outcome) == LaneHeld("8", "3", "2:3:1:0")
    assert policy().hold(outcome) == Hold(30, "429")


@pytest.mark.parametrize("groups", [None, {"by": "message"}])
def test_a_throttled_target_delays_only_its_message_and_spends_nothing(groups: object) -> None:
    claim = a_claim(attempts=2)
    claim = msgspec.structs.replace(claim, message=msgspec.structs.replace(claim.message, group="a"))
    outcome = Throttled("429", after=30, scope="target")
    assert policy(groups=groups).settle(claim, outcome) == Delayed("8", "3", 30_000, "2:3:1:0")
    endless = Throttled("429", after=10**9, scope="target")
    assert policy(groups=groups).settle(claim, endless) == Delayed("8", "3", 3_600_000, "2:3:1:0")


def test_a_throttled_target_without_a_time_waits_longer_each_time() -> None:
    def mean_wait(deliveries: int) -> float:
        claim = msgspec.structs.replace(a_claim(), deliveries=deliveries)
        found = [policy(retry={"base": 2, "max": 60}).settle(claim, Throttled("429", scope="target"))]
        found += [
            policy(retry={"base": 2, "max": 60}).settle(claim, Throttled("429", scope="target"))
            for _ in range(499)
        ]
        assert all(isinstance(each, Delayed) and 1 <= each.delay <= 60_000 for each in found)
        return mean(each.delay for each in found if isinstance(each, Delayed))

    assert mean_wait(0) < mean_wait(2) < mean_wait(9)


@pytest.mark.parametrize("after", [0, 0.0, -1])
def test_no_time_at_all_means_relay_s_own_backoff(after: float) -> None:
    """Otherwise the same request would be repeated as fast as the provider answers."""
    base = {"retry": {"base": 1000, "max": 1000}}
    retry = policy(**base).settle(a_claim(), Retry("503", after=after))
    target = policy(**base).settle(a_claim(), Throttled("429", after=after, scope="target"))
    assert isinstance(retry, RetryLater)
    assert isinstance(target, Delayed)
    assert min(retry.delay, target.delay) > 10  # of a random million
    assert policy().hold(Throttled("429", after=after)) == Hold(None, "429")
    claim = msgspec.structs.replace(a_claim(), message=a_message("order-17", group="a"))
    grouped = policy(groups={"by": "message"}).settle(claim, Throttled("429", after=after))
    assert isinstance(grouped, GroupHeld)
    assert grouped.wait == 0


def test_no_answer_holds_a_lane_for_more_than_an_hour() -> None:
    assert policy().hold(Throttled("429", after=10**9)) == Hold(LONGEST_HOLD, "429")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(Unauthorised("401"), State.UNAUTHORISED), (Faulty("401"), State.FAULTY)],
    ids=["unauthorised", "faulty"],
)
def test_a_refused_message_waits_for_the_verdict_and_spends_no_attempt(
    outcome: Outcome, state: State
) -> None:
    settlement = policy().settle(a_claim(attempts=2), outcome)
    assert isinstance(settlement, Refused)
    tries = f"2:3:1:0 {history(0, '401')}"
    assert (settlement.reason, settlement.tries, settlement.state) == ("401", tries, state)
    assert settlement.again == 0


def test_a_message_that_was_tried_again_keeps_the_count() -> None:
    claim = msgspec.structs.replace(a_claim(), again=2)
    settlement = policy().settle(claim, Unauthorised("401", target="token", unregistered=True))
    assert isinstance(settlement, Refused)
    assert (settlement.again, settlement.target, settlement.unregistered) == (2, "token", True)
    assert policy().release(claim) == Released("8", "3", "0:3:1:0:2")


def test_a_member_of_a_failed_batch_travels_alone_next_time() -> None:
    assert policy().settle(a_claim(), Isolate()) == Released("8", "3", "0:3:1:1")


def test_a_rejection_is_a_dead_letter_at_once() -> None:
    settlement = policy().settle(a_claim(), Rejected("413 too large", 413, b"no"))
    kept = history(413, "413 too large")
    assert settlement == DeadLettered("8", "3", "413 too large", 413, b"no", 1, answered=True, history=kept)


def test_a_gone_target_is_feedback() -> None:
    settlement = policy().settle(a_claim(), Unregistered("token", "410 gone", since=5.0))
    tries = f"0:3:1:0 {history(0, '410 gone')}"
    assert settlement == TargetGone("8", "3", "410 gone", "token", 5.0, "order-17", 1, tries, again=0)


@pytest.mark.parametrize("attempt", [1, 2, 3, 7, 50, 5000])
def test_the_backoff_is_exponential_with_full_jitter_and_a_ceiling(attempt: int) -> None:
    backoff = policy(retry={"base": 2, "max": 60}).backoff
    ceiling = min(60, 2 * 2 ** min(attempt - 1, 10))
    waits = [backoff(attempt) for _ in range(2000)]
    assert 0 <= min(waits) < ceiling * 0.05
    assert ceiling * 0.95 < max(waits) <= ceiling
    assert mean(waits) == pytest.approx(ceiling / 2, rel=0.1)


FOREIGN = "401 for whsec-marker \x1b[2J\r\nforged"
ENDS = [
    Retry(FOREIGN, 500, b"echo whsec-marker"),
    Rejected(FOREIGN, 400, b"echo whsec-marker"),
    Throttled(FOREIGN),
    Unauthorised(FOREIGN, 401, b"echo whsec-marker"),
    Unregistered("token", FOREIGN),
]


@pytest.mark.parametrize("outcome", ENDS, ids=lambda outcome: type(outcome).__name__)
def test_a_reason_from_an_adapter_is_one_line_without_secrets(outcome: Outcome) -> None:
    own = WebhookOptions(
        type="webhook",
        url="https://a.example/",
        headers={"X-Api-Key": "whsec-marker"},
        retry=RetryOptions(attempts=1),
    )
    told = str(Policy(own).settle(a_claim(), outcome))
    if isinstance(outcome, Throttled):
        told = str(Policy(own).hold(outcome))
    assert "401 for *** \\\\x1b[2J forged" in told
    assert "marker" not in told
