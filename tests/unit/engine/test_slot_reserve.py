"""Slots that are kept free for groups that answer."""

from __future__ import annotations

from relay.engine.slot_reserve import KEEP, SLOW, SlotReserve


def test_a_lane_whose_messages_end_soon_shares_all_its_slots() -> None:
    reserve = SlotReserve(64)
    assert reserve.shared({}, 100.0) == 0
    assert reserve.shared({"1": 100.0, "2": 100.2}, 100.0 + SLOW) == 0


def test_a_message_that_hangs_keeps_slots_free_for_a_while() -> None:
    reserve = SlotReserve(64)
    late = 100.0 + SLOW + 0.01
    assert reserve.shared({"1": 100.0}, late) == 40
    assert reserve.shared({}, late + KEEP - 1) == 40
    assert reserve.shared({}, late + KEEP) == 0
