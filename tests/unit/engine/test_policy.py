"""What each outcome means for the message and its lane."""

from __future__ import annotations

from statistics import mean

import pytest

from providers.webhook import WebhookOptions
from relay.engine.policy import LONGEST_HOLD, Settler
from relay.outcome import (
    Delivered,
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
from relay.store.lane import Claim, Hold
from testing.builders import a_message, options, plain_message


def a_claim(*, attempts: int = 0, alone: bool = False) -> Claim:
    return Claim("8", "3", a_message("order-17", attempts=attempts), deliveries=2, crashes=1, alone=alone)


def settler(**fields: object) -> Settler:
    return Settler(options(**fields))


def test_a_message_that_this_process_could_not_send_waits_and_spends_no_attempt() -> None:
    settlement = settler(retry=RetryOptions(attempts=1)).settle(a_claim(), Postponed("no descriptor", 1.5))
    assert settlement.entry == ("8", "3", "w", 1500, "0:3:1:0")
    assert settlement.hold is None


def test_a_delivery_is_the_end() -> None:
    settlement = settler().settle(a_claim(), Delivered())
    assert settlement.entry == ("8", "3", "d", 1)
    assert settlement.hold is None


def test_the_delivery_of_a_message_that_asks_for_nothing_needs_no_look_at_it() -> None:
    claim = Claim("8", "3", plain_message("hello"), plain=True)
    assert settler().settle(claim, Delivered()).entry == ("8", "3", "p")


def test_a_retry_spends_an_attempt_and_waits() -> None:
    settlement = settler().settle(a_claim(attempts=1), Retry("503"))
    ticket, fence, kind, delay, tries, reason = settlement.entry
    assert (ticket, fence, kind, tries, reason) == ("8", "3", "r", "2:3:1:0", "503")
    assert isinstance(delay, int)
    assert 1 <= delay <= 2000


def test_the_provider_s_own_wish_wins_over_the_backoff() -> None:
    assert settler().settle(a_claim(), Retry("503", after=7.5)).entry[3] == 7500


def test_the_last_attempt_is_a_dead_letter_with_the_answer() -> None:
    outcome = Retry("500 oops", status=500, body=b"y" * 5000)
    entry = settler(retry={"attempts": 3}).settle(a_claim(attempts=2), outcome).entry
    assert entry == ("8", "3", "x", "gave up after 3 attempts: 500 oops", 500, b"y" * 4096, 3, 0)


def test_throttling_holds_the_lane_and_spends_nothing() -> None:
    settlement = settler().settle(a_claim(attempts=2), Throttled("429", after=30))
    assert settlement.entry == ("8", "3", "b", "2:3:1:0")
    assert settlement.hold == Hold("throttled", 30, "429")


def test_no_answer_holds_a_lane_for_more_than_an_hour() -> None:
    settlement = settler().settle(a_claim(), Throttled("429", after=10**9))
    assert settlement.hold == Hold("throttled", LONGEST_HOLD, "429")


def test_refused_credentials_hold_the_lane_and_spend_nothing() -> None:
    settlement = settler(breaker={"cooldown": 12}).settle(a_claim(), Unauthorised("401"))
    assert settlement.entry[2] == "b"
    assert settlement.hold == Hold("unauthorised", 12, "401")


def test_a_member_of_a_failed_batch_travels_alone_next_time() -> None:
    assert settler().settle(a_claim(), Isolate()).entry == ("8", "3", "b", "0:3:1:1")


def test_a_rejection_is_a_dead_letter_at_once() -> None:
    entry = settler().settle(a_claim(), Rejected("413 too large", 413, b"no")).entry
    assert entry == ("8", "3", "x", "413 too large", 413, b"no", 1, 1)


def test_a_gone_target_is_feedback() -> None:
    entry = settler().settle(a_claim(), Unregistered("token", "410 gone", since=5.0)).entry
    assert entry == ("8", "3", "u", "410 gone", "token", 5.0, "order-17", 1)


@pytest.mark.parametrize("attempt", [1, 2, 3, 7, 50, 5000])
def test_the_backoff_is_exponential_with_full_jitter_and_a_ceiling(attempt: int) -> None:
    backoff = settler(retry={"base": 2, "max": 60}).backoff
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
def test_what_an_adapter_passes_on_is_one_line_without_secrets(outcome: Outcome) -> None:
    own = WebhookOptions(
        type="webhook",
        url="https://a.example/",
        headers={"X-Api-Key": "whsec-marker"},
        retry=RetryOptions(attempts=1),
    )
    settlement = Settler(own).settle(a_claim(), outcome)
    told = [*settlement.entry, *([settlement.hold.why] if settlement.hold else [])]
    assert any("401 for *** \\x1b[2J forged" in str(text) for text in told)
    assert "marker" not in str(told)
