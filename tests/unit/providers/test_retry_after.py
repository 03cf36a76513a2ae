"""Retry-After in both of its forms, and in the forms that servers invent."""

from __future__ import annotations

import pytest

from relay.provider.retry_after import LONGEST, retry_after

NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("120.1", 121),
        ("Wed, 21 Oct 2015 07:29:00 GMT", 60),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0),
        ("Wednesday, 21-Oct-15 07:29:00 GMT", 60),
        ("Wed Oct 21 07:29:00 2015", 60),
        ("99999999", LONGEST),
        ("Wed, 21 Oct 2099 07:28:00 GMT", LONGEST),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1e3", None),
        ("٣", None),
        ("1" * 400, None),
        ("Wed, 99 Oct 2015 07:29:00 GMT", None),
    ],
)
def test_the_time_to_wait(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_a_missing_header_means_no_wait() -> None:
    assert retry_after({}, NOW) is None
