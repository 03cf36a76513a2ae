"""Slots that are kept free for groups that answer."""

from __future__ import annotations

from relay.engine.slot_reserve import KEEP, MOST_ANSWERING, SLOW, SlotReserve
from relay.store.claims import Claim
from testing.builders import plain_message


def claims(groups: str) -> list[Claim]:
    """One message for each letter, which is its group."""
    return [Claim(str(number), "1", plain_message("x", group=group)) for number, group in enumerate(groups)]


def in_hand(number: int, since: float = 100.0) -> dict[str, float]:
    return {str(ticket): since for ticket in range(number)}


def a_proven_reserve(groups: str = "ab") -> SlotReserve:
    """A reserve of 64 slots for groups that have answered."""
    reserve = SlotReserve(64)
    for group in groups:
        reserve.answered(group)
    reserve.claimed(claims(groups))
    return reserve


def test_the_first_claim_keeps_slots_free() -> None:
    assert SlotReserve(64).shared({}, 100.0) == 40


def test_groups_that_answered_last_time_may_use_all_slots() -> None:
    reserve = a_proven_reserve()
    assert reserve.shared(in_hand(50), 100.0 + SLOW) == 0


def test_untried_groups_share_the_slots_that_are_not_kept_free() -> None:
    reserve = a_proven_reserve()
    reserve.claimed(claims("ab" * 10 + "c" * 20))
    assert reserve.shared(in_hand(40), 100.0) == 60  # 20 for groups that answer, and 40 as before
    reserve.finished(claims("c" * 18))
    reserve.claimed(claims("ab"))
    assert reserve.shared(in_hand(24), 100.0) == 0


def test_an_answer_clears_the_other_messages_of_its_group() -> None:
    reserve = a_proven_reserve()
    reserve.claimed(claims("c" * 20))
    reserve.answered("c")
    reserve.claimed(claims("c"))
    assert reserve.shared(in_hand(21), 100.0) == 0


def test_a_group_that_fails_is_untried_again() -> None:
    reserve = a_proven_reserve()
    reserve.failed("a")
    reserve.claimed(claims("a" * 20))
    assert reserve.shared(in_hand(20), 100.0) == 40


def test_messages_that_were_released_take_no_slots() -> None:
    reserve = a_proven_reserve()
    reserve.claimed(claims("c" * 20))
    reserve.forget_messages()
    reserve.claimed(claims("a"))
    assert reserve.shared(in_hand(1), 100.0) == 0


def test_a_message_that_hangs_keeps_slots_free_for_a_while() -> None:
    reserve, late = a_proven_reserve(), 100.0 + SLOW + 0.01
    assert reserve.shared(in_hand(1), late) == 40
    assert reserve.shared({}, late + KEEP - 1) == 40
    assert reserve.shared({}, late + KEEP) == 0


def test_a_bounded_number_of_groups_is_remembered() -> None:
    reserve = a_proven_reserve()
    for number in range(MOST_ANSWERING):
        reserve.answered(str(number))
    reserve.claimed(claims("a"))
    assert reserve.shared(in_hand(1), 100.0) == 40
