"""Sparklines are short, because a page may have hundreds of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from relay.admin.console.charts import sparkline


def outlines(sent: Sequence[float], failed: Sequence[float]) -> list[str]:
    """Return the outlines of a sparkline in front of its base line."""
    return re.findall(r'<path class="spark-(?!base)\w+" d="([^"]+)"', sparkline(sent, failed, "a label"))


def test_equal_minutes_share_one_bar() -> None:
    assert outlines([7] * 60, [0] * 60) == ["M0 24V2H120V24z"]
    assert outlines([10] * 30 + [0] * 29 + [5], [0] * 59 + [10]) == [
        "M0 24V2H60V24H118V13H120V24z",
        "M0 24V24H118V2H120V24z",
    ]


def test_a_minute_with_few_messages_is_seen() -> None:
    assert outlines([1, 1_000_000], [])[0].startswith("M0 24V22.5H60V2H120")


def test_an_hour_of_different_minutes_is_short() -> None:
    sent = [100 + number * 37 % 61 for number in range(60)]
    assert len(sparkline(sent, [number % 7 for number in range(60)], "a label")) < 1500
