"""Points in time as an operator types them."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UsageError
from relay.operations.times import parse_moment

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-28T03:00:00Z", 1_795_834_800.0),
        ("2026-11-28T04:00:00+01:00", 1_795_834_800.0),
        ("2026-11-28 03:00:00", 1_795_834_800.0),
        ("2026-11-28", 1_795_824_000.0),
        ("1795834800", 1_795_834_800.0),
        ("1795834800.5", 1_795_834_800.5),
        ("2h", NOW - 7200),
        ("1d12h", NOW - 129_600),
        ("90", NOW - 90),
        ("0", NOW),
    ],
)
def test_times_and_durations_are_understood(text: str, seconds: float) -> None:
    assert parse_moment("--since", text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "-2h", "2026-13-01", "2h ago", "1e9", "nan", "\x1b[31m"])
def test_another_text_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"--since: .* is no time: write 2026") as refused:
        parse_moment("--since", text, NOW)
    assert str(refused.value).isprintable()


def test_a_number_beyond_all_times_is_refused() -> None:
    with pytest.raises(UsageError, match="out of range"):
        parse_moment("--until", "9" * 30, NOW)


@given(st.text(max_size=30))
def test_any_text_gives_a_number_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        assert math.isfinite(parse_moment("--since", text, NOW))
