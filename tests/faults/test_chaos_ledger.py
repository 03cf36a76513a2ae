"""The ledger finds each broken promise in evidence that was made to have it, and finds none in other
evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos.configuration import GROUP_CONCURRENCY, Configuration, Limit
from chaos.evidence import Arrival, DeadLetter, Evidence, Pushed, Receipt, Window
from chaos.ledger import judge
from chaos.messages import HEALTHY_LANE, MIXED_LANE, Kind, Push

NOW = 1_800_000_000.0
CONFIGURATION = Configuration(
    {"limited": Limit(10, 2), "changing": Limit(10, 2)}, Limit(7, 2), 10, Limit(50, 10)
)


class Story:
    """Evidence, built message by message."""

    def __init__(self) -> None:
        self.evidence = Evidence({})

    def push(self, kind: Kind = Kind.NAMED, *, certain: bool = True, at: float = 0.0, **fields: Any) -> Push:
        number = len(self.evidence.pushes)
        if kind not in (Kind.PLAIN, Kind.BARE, Kind.MALFORMED):
            fields = {"id": f"m{number}", "reply_to": "receipts:0", **fields}
        push = Push(number, at, kind, fields.pop("provider", "hook"), **fields)
        self.evidence.pushes = {**self.evidence.pushes, number: push}
        self.evidence.pushed[number] = Pushed(NOW + at, NOW + at, certain)
        return push

    def arrive(self, push: Push, after: float = 0.1, answer: str = "ok", **fields: Any) -> Arrival:
        arrival = Arrival(push.number, push.provider, "w0", NOW + push.at + after, answer=answer)
        arrival = replace(arrival, **fields)
        self.evidence.arrivals.append(arrival)
        return arrival

    def end(self, push: Push, outcome: str = "delivered", reason: str = "", **fields: Any) -> None:
        fields = {"attempts": 1, "at": NOW + push.at + 0.2, **fields}
        self.evidence.receipts.append(Receipt(push.id, push.provider, outcome, reason, **fields))

    def bury(self, push: Push, *, malformed: bool = False) -> None:
        self.evidence.letters.append(DeadLetter(push.provider, push.number, "why", malformed))

    def fault(self, kind: str, start: float, end: float, **fields: Any) -> None:
        self.evidence.windows.append(Window(kind, NOW + start, NOW + end, **fields))

    @property
    def rules(self) -> list[str]:
        return [violation.rule for violation in judge(self.evidence, CONFIGURATION).violations]


@pytest.fixture
def story() -> Story:
    return Story()


def delivered(story: Story, kind: Kind = Kind.NAMED, **fields: Any) -> Push:
    push = story.push(kind, **fields)
    story.arrive(push)
    if push.reply_to:
        story.end(push)
    return push


def test_a_good_run_has_no_violations(story: Story) -> None:
    delivered(story)
    delivered(story, Kind.PLAIN)
    delivered(story, Kind.DELAYED, delay=0.05)
    refused = story.push(Kind.REFUSED)
    story.arrive(refused, answer="refused")
    story.end(refused, "rejected")
    story.bury(refused)
    malformed = story.push(Kind.MALFORMED)
    story.bury(malformed, malformed=True)
    gone = story.push(Kind.GONE)
    story.arrive(gone, answer="refused")
    story.end(gone, "unregistered")
    story.evidence.feedback.append(gone.id)
    first = story.push(Kind.DEDUPLICATED)
    second = story.push(Kind.DEDUPLICATED, id=first.id)
    story.arrive(first)
    story.end(first)
    story.end(second, "duplicate")
    many = story.push(Kind.FAN_OUT, targets=2, provider="fan")
    for target in ("/target/0", "/target/1"):
        story.arrive(many, target=target)
    story.end(many, targets={"delivered": 2})
    story.push(certain=False)
    assert story.rules == []


def test_a_message_that_never_ended_is_lost(story: Story) -> None:
    story.push()
    story.push(Kind.PLAIN)
    assert story.rules == ["lost", "lost"]


def test_a_message_that_came_but_has_no_receipt_is_lost(story: Story) -> None:
    story.arrive(story.push())
    assert "lost" in story.rules


def test_two_receipts_are_one_too_many(story: Story) -> None:
    story.end(delivered(story))
    assert story.rules == ["ended twice"]


def test_a_message_ends_as_its_kind_requires(story: Story) -> None:
    push = story.push()
    story.end(push, "expired")
    assert story.rules == ["wrong end"]


def test_a_message_that_no_receiver_got_was_not_delivered(story: Story) -> None:
    push = story.push()
    story.arrive(push, answer="failed")
    story.end(push)
    assert story.rules == ["phantom"]


def test_a_duplicate_that_nothing_explains_is_found(story: Story) -> None:
    story.arrive(delivered(story), after=0.5)
    assert story.rules == ["duplicate"]


def test_a_request_that_a_host_had_started_before_it_froze_explains_a_duplicate(story: Story) -> None:
    push = delivered(story)
    story.arrive(push, after=5, host="w2")
    assert story.rules == ["duplicate"]
    story.fault("freeze beyond lease", -1, 4.9, host="w3")
    assert story.rules == ["duplicate"], "another host was frozen"
    story.fault("freeze beyond lease", 1, 4.9, host="w2")
    assert story.rules == ["duplicate"], "it began later than the delivery"
    story.fault("freeze beyond lease", -1, 4.9, host="w2")
    assert story.rules == []


def test_a_second_attempt_after_a_failure_is_no_duplicate(story: Story) -> None:
    push = story.push()
    for answer in ("failed", "throttled", "reset", "hung", "aborted", "ok"):
        story.arrive(push, answer=answer)
    story.end(push)
    assert story.rules == []


def test_a_duplicate_is_explained_by_the_death_of_its_worker_and_of_no_other(story: Story) -> None:
    story.arrive(delivered(story), after=0.5)
    story.fault("kill worker", 0.2, 0.9, host="w1")
    assert story.rules == ["duplicate"]
    story.fault("kill worker", 0.2, 0.9, host="w0")
    assert story.rules == []


def test_a_fault_that_cannot_cause_a_duplicate_does_not_explain_one(story: Story) -> None:
    story.arrive(delivered(story), after=0.5)
    story.fault("stall", 0, 1, host="w0")
    story.fault("flush scripts", 0, 1)
    assert story.rules == ["duplicate"]


def test_a_success_that_ends_otherwise_needs_an_explanation(story: Story) -> None:
    push = story.push(Kind.SHORT_LIVED, ttl=0.1)
    story.arrive(push)
    story.end(push, "expired")
    assert story.rules == ["wrong end"]


def test_a_retry_after_the_success_is_a_duplicate(story: Story) -> None:
    story.arrive(delivered(story), after=0.6, answer="failed")
    assert story.rules == ["duplicate"]


@pytest.mark.parametrize("kind", [Kind.EXPIRED, Kind.CANCELLED])
def test_a_message_that_must_not_be_sent_is_never_sent(story: Story, kind: Kind) -> None:
    push = story.push(kind)
    story.arrive(push, answer="failed")
    story.end(push, "expired" if kind is Kind.EXPIRED else "cancelled")
    assert story.rules == ["wrong end"]


def test_a_delayed_message_comes_too_early(story: Story) -> None:
    delivered(story, Kind.DELAYED, delay=5)
    assert story.rules == ["too early"]
    story.fault("step Redis clock", 0, 1)
    assert story.rules == []


def test_a_message_expires_too_early(story: Story) -> None:
    push = story.push(Kind.SHORT_LIVED, ttl=30)
    story.end(push, "expired", at=NOW + 20)
    assert story.rules == ["wrong end"]
    story.fault("step worker clock", 19, 21)
    assert story.rules == []


def test_a_dead_letter_is_there_once(story: Story) -> None:
    push = story.push(Kind.REFUSED)
    story.arrive(push, answer="refused")
    story.end(push, "rejected")
    assert story.rules == ["dead letters"]
    story.bury(push)
    assert story.rules == []
    story.bury(push)
    assert story.rules == ["dead letters"]


def test_poison_may_end_any_message(story: Story) -> None:
    push = story.push()
    reason = "poison: 3 workers died while they held it"
    story.end(push, "dead", reason)
    story.bury(push)
    assert story.rules == []


def test_a_delivered_message_is_no_dead_letter(story: Story) -> None:
    story.bury(delivered(story))
    assert story.rules == ["dead letters"]


def test_a_malformed_element_that_vanished_is_lost(story: Story) -> None:
    story.push(Kind.MALFORMED)
    assert story.rules == ["lost"]


def test_attempts_that_no_receiver_saw_are_found(story: Story) -> None:
    push = story.push(Kind.DOOMED)
    story.arrive(push, answer="failed")
    story.end(push, "dead", attempts=3)
    story.bury(push)
    assert story.rules == ["phantom"]


def test_a_target_of_a_fan_out_that_got_nothing_is_lost(story: Story) -> None:
    push = story.push(Kind.FAN_OUT, targets=2)
    story.arrive(push, target="/target/0")
    story.end(push, targets={"delivered": 2})
    assert story.rules == ["lost"]


def test_a_target_of_a_fan_out_that_got_it_twice_is_found(story: Story) -> None:
    push = story.push(Kind.FAN_OUT, targets=1)
    story.arrive(push, target="/target/0")
    story.arrive(push, after=0.5, target="/target/0")
    story.end(push, targets={"delivered": 1})
    assert story.rules == ["duplicate"]


def test_a_fan_out_that_lost_count_is_found(story: Story) -> None:
    push = story.push(Kind.FAN_OUT, targets=1)
    story.arrive(push, target="/target/0")
    story.end(push, targets={"delivered": 2})
    assert story.rules == ["wrong end"]


def test_two_messages_with_one_id_have_one_end(story: Story) -> None:
    first = delivered(story, Kind.REPEATED)
    story.push(Kind.REPEATED, id=first.id)
    assert story.rules == ["lost"]


def test_an_id_that_was_seen_lately_is_delivered_once(story: Story) -> None:
    first = delivered(story, Kind.DEDUPLICATED)
    second = story.push(Kind.DEDUPLICATED, id=first.id)
    story.arrive(second)
    story.end(second)
    assert story.rules == ["duplicate"]
    story.fault("fail over", 0, 1)
    assert story.rules == []


def test_the_newest_state_of_a_key_is_not_collapsed(story: Story) -> None:
    delivered(story, Kind.COLLAPSING, collapse_key="k")
    newest = story.push(Kind.COLLAPSING, collapse_key="k", at=1.0)
    story.end(newest, "collapsed")
    assert story.rules == ["lost"]


def test_the_older_of_two_that_were_pushed_at_once_may_be_collapsed(story: Story) -> None:
    older, newer = (story.push(Kind.COLLAPSING, collapse_key="k") for _ in range(2))
    story.end(older, "collapsed")
    story.arrive(newer)
    story.end(newer)
    assert story.rules == []


def test_receipts_that_only_a_lost_master_had_need_not_be_counted(story: Story) -> None:
    push = story.push(Kind.PLAIN, certain=False)
    story.arrive(push)
    story.evidence.counters["hook"] = {"accepted": 0, "delivered": 0}
    assert story.rules == []


def test_a_target_that_is_gone_is_reported_once(story: Story) -> None:
    push = story.push(Kind.GONE)
    story.arrive(push, answer="refused")
    story.end(push, "unregistered")
    assert story.rules == ["feedback"]


def test_a_dead_letter_that_was_retried_is_delivered(story: Story) -> None:
    push = story.push(Kind.RETRIED)
    story.arrive(push, answer="refused")
    story.end(push, "rejected")
    story.evidence.retried = 1
    assert "lost" in story.rules
    story.arrive(push, after=3)
    story.end(push)
    assert story.rules == []


def test_a_message_that_was_never_pushed_is_an_invention(story: Story) -> None:
    push = delivered(story)
    del story.evidence.pushed[push.number]
    assert story.rules == ["invented"]
    story.evidence.receipts.append(Receipt("who", "hook", "delivered", "", 1, NOW))
    assert story.rules == ["invented", "invented"]


def test_an_inversion_is_found(story: Story) -> None:
    first, second = (story.push(Kind.ORDERED, ordering_key="k", at=0.0) for _ in range(2))
    story.arrive(second, after=0.1)
    story.arrive(first, after=0.2)
    for push in (first, second):
        story.end(push)
    assert story.rules == ["inversion"]


def test_a_repetition_after_a_later_one_is_an_inversion_too(story: Story) -> None:
    first, second = (delivered(story, Kind.ORDERED, ordering_key="k", at=at) for at in (0.0, 1.0))
    assert story.rules == []
    story.arrive(first, after=2.0)
    story.fault("kill worker", 0, 1, host="w0")
    assert second.ordering_key == "k"
    assert story.rules == ["inversion"]


def test_messages_that_a_failover_undid_go_out_again_in_order(story: Story) -> None:
    first, second = (delivered(story, Kind.ORDERED, ordering_key="k", at=at) for at in (0.0, 1.0))
    story.fault("fail over", 1, 2)
    story.arrive(first, after=2.0)
    story.arrive(second, after=1.5)
    assert story.rules == []


def test_a_failover_does_not_excuse_an_earlier_breach_of_order(story: Story) -> None:
    first, second = (story.push(Kind.ORDERED, ordering_key="k", at=0.0) for _ in range(2))
    story.fault("fail over", 0, 1)
    story.arrive(second, after=0.1)
    story.arrive(first, after=0.2)
    for push in (first, second):
        story.end(push)
    assert story.rules == ["inversion"]


def burst(story: Story, total: int, seconds: float) -> None:
    for number in range(total):
        delivered(story, Kind.NAMED, provider="limited", at=number * seconds / total)


def test_a_rate_that_is_kept_is_no_finding(story: Story) -> None:
    burst(story, 42, 4.0)
    assert story.rules == []


def test_a_rate_that_is_exceeded_is_found(story: Story) -> None:
    burst(story, 60, 4.0)
    assert set(story.rules) == {"too fast"}


def test_a_burst_is_explained_by_a_worker_that_was_held_up_as_far_as_its_bucket_goes(story: Story) -> None:
    burst(story, 7, 0.01)
    assert story.rules == ["too fast"]
    story.fault("freeze worker", -2, 0, host="w1")
    assert story.rules == []
    burst(story, 7, 0.01)
    assert "too fast" in story.rules


def test_counters_that_do_not_add_up_are_found(story: Story) -> None:
    delivered(story)
    story.evidence.counters["hook"] = {"accepted": 1, "delivered": 1}
    assert story.rules == []
    story.evidence.counters["hook"] = {"accepted": 2, "delivered": 1}
    assert story.rules == ["counters"]
    story.evidence.counters["hook"] = {"accepted": 2, "delivered": 2}
    assert story.rules == ["counters"]


@pytest.mark.parametrize(
    "key",
    [
        "notifications",
        "relay:{hook}:inflight:w1",
        "relay:{hook}:bodies",
        "relay:{hook}:outbox",
        "relay:{notifications}:processing:w1",
        "relay:{notifications}:sequence:w1",
        "relay:{fleet}:workers",
        "somebody's",
    ],
)
def test_a_key_that_is_left_is_found(story: Story, key: str) -> None:
    story.evidence.keys = {key: 1}
    assert story.rules == ["leftover"]
    story.evidence.keys = {key: 0}
    assert story.rules == []


def test_keys_that_may_stay_are_no_finding(story: Story) -> None:
    kept = ["control", "dead", "seen"]
    story.evidence.keys = {
        **{f"relay:{{hook}}:{part}": 3 for part in kept},
        "relay:feedback": 1,
        "relay:{fleet}:gone": 1,
        "relay:{notifications}:rejected": 2,
        "relay:{notifications}:last_sequence": 1,
        "relay:{receipts:0}:forwarded": 1,
        "receipts:0": 9,
    }
    assert story.rules == []


def test_remaining_workers_log_errors_and_unfinished_faults_are_findings(story: Story) -> None:
    story.evidence.workers = ["w1"]
    story.evidence.log = ["Traceback"]
    story.evidence.broken = ["not empty"]
    assert story.rules == ["leftover", "log", "unfinished"]


def send_to_groups(story: Story, *, delay: float) -> None:
    """Messages for a healthy group: they take so long in the lane with sick groups, 0.1 s in the other."""
    for number in range(6):
        for lane, after in ((MIXED_LANE, delay), (HEALTHY_LANE, 0.1)):
            push = story.push(Kind.GROUPED, at=5.0 * number, provider=lane, group="healthy-0")
            story.arrive(push, after=after, group=push.group)
            story.end(push)


def test_healthy_groups_that_are_as_fast_as_without_sick_ones(story: Story) -> None:
    send_to_groups(story, delay=0.3)
    assert story.rules == []


def test_a_healthy_group_that_waits_for_sick_ones_is_starved(story: Story) -> None:
    send_to_groups(story, delay=2)
    assert story.rules == ["starved"]


def test_a_message_of_a_healthy_group_that_comes_much_too_late_is_starved(story: Story) -> None:
    send_to_groups(story, delay=0.1)
    push = story.push(Kind.GROUPED, provider=MIXED_LANE, group="healthy-0")
    story.arrive(push, after=31, group=push.group)
    story.end(push)
    assert story.rules == ["starved"]


def test_a_group_that_is_faster_than_its_rate_is_found(story: Story) -> None:
    pushes = [story.push(Kind.FAILING_GROUP, provider=MIXED_LANE, group="hanging") for _ in range(40)]
    for push in pushes:
        story.arrive(push, group=push.group)
        story.end(push)
    assert story.rules == ["too fast"]


def test_a_group_beyond_its_concurrency_is_found(story: Story) -> None:
    for number in range(GROUP_CONCURRENCY + 1):
        push = story.push(Kind.FAILING_GROUP, provider=MIXED_LANE, group="hanging")
        story.arrive(push, after=0.1 * number, answer="hung", group=push.group, ended=NOW + 2)
        story.arrive(push, after=10 + number, group=push.group)
        story.end(push, at=NOW + 20)
    assert story.rules == ["too many"]
    story.fault("kill worker", 0, 0, host="w0")
    assert story.rules == []
