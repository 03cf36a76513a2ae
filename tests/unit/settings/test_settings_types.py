"""Durations, rates, sizes and secrets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from relay.settings.durations import format_duration, parse_duration, rough_duration
from relay.settings.options import ProviderOptions
from relay.settings.values import Rate, Secret, parse_rate, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0), (10, 10), (1.5, 1.5), ("10", 10), ("10s", 10), ("1h", 3600), ("500ms", 0.5), ("1h30m", 5400),
        ("1h 30m", 5400), ("2d", 172800), ("1.5s", 1.5), (" 10s ", 10), ("0s", 0),
    ],
)  # fmt: skip
def test_a_duration_is_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        -1,
        "-1s",
        "10 parsecs",
        "",
        "s",
        "1e3s",
        "10s junk",
        math.inf,
        math.nan,
        True,
        None,
        [],
        "9" * 5000,
        10**400,
    ],
)
def test_the_error_for_a_wrong_duration_shows_the_syntax(written: object) -> None:
    with pytest.raises(
        ValueError, match="is not a duration; write seconds or a text such as 10s, 500ms or 1h30m"
    ):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "rate", "per_second"),
    [
        ("100/s", Rate(100, 1), 100),
        ("600000/m", Rate(600000, 60), 10000),
        ("9/h", Rate(9, 3600), 0.0025),
        ("1000/d", Rate(1000, 86400), 1000 / 86400),
        ("20/10s", Rate(20, 10), 2),
        ("0.5/s", Rate(0.5, 1), 0.5),
    ],
)
def test_a_rate_is_a_number_in_a_time(written: str, rate: Rate, per_second: float) -> None:
    assert parse_rate(written) == rate
    assert parse_rate(written).per_second == per_second
    assert str(rate) == written


@pytest.mark.parametrize(
    "written", ["100/x", "0/s", "-1/s", "100", 100, "/s", "1/0s", "", None, "1/s/s", "1/10"]
)
def test_the_error_for_a_wrong_rate_shows_the_syntax(written: object) -> None:
    with pytest.raises(ValueError, match="is not a rate; write 100/s, 600000/m or a list of them"):
        parse_rate(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [(5, 5), ("5", 5), ("5B", 5), ("256KiB", 262144), ("1MB", 10**6), ("1.5 MiB", 1572864)],
)
def test_a_size_is_bytes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["1XB", -1, "1.5", 1.5, True, None, "", "0.0001KB"])
def test_the_error_for_a_wrong_size_shows_the_syntax(written: object) -> None:
    with pytest.raises(ValueError, match="is not a size; write bytes or a text such as 256KiB or 1MB"):
        parse_size(written)


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_a_duration_survives_being_written(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (59.6, "1m"),
        (3599, "59m59s"),
        (5397, "1h30m"),
        (86399, "1d"),
        (259205, "3d"),
        (93600, "1d2h"),
    ],
)
def test_a_duration_for_people_is_only_as_exact_as_they_need(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


@given(st.floats(min_value=1e-6, max_value=1e9), st.floats(min_value=1e-3, max_value=1e9))
def test_a_rate_survives_being_written(count: float, period: float) -> None:
    rate = Rate(count, period)
    assert parse_rate(str(rate)) == rate


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text())))
def test_parsers_raise_nothing_but_value_errors_of_one_line(value: object) -> None:
    texts = []
    for parse in (parse_duration, parse_rate, parse_size):
        try:
            parse(value)
        except ValueError as error:
            texts.append(str(error))
    assert all(text.isprintable() for text in texts)


class Holder(BaseModel):
    secret: Secret
    several: list[Secret] = []


def test_a_secret_is_never_shown() -> None:
    holder = Holder(secret=Secret("hunter2"), several=[Secret("hunter3")])
    shown = f"{holder!r} {holder} {holder.secret} {holder.secret!r} "
    shown += f"{holder.model_dump()} {holder.model_dump_json()}"
    assert "hunter" not in shown
    assert holder.secret.get_secret_value() == "hunter2"


def test_bursts_default_to_a_tenth_of_a_seconds_worth_of_each_rate_and_at_least_one() -> None:
    options = ProviderOptions.model_validate({"type": "x", "rate": ["100/s", "600000/m", "1/s", "30/s"]})
    assert options.bursts() == (10, 1000, 1, 3)
    assert options.model_copy(update={"burst": 7}).bursts() == (7, 7, 7, 7)


def test_a_rate_may_be_one_or_several_or_none() -> None:
    def rates(value: object) -> tuple[Rate, ...]:
        return ProviderOptions.model_validate({"type": "x", "rate": value}).rate

    assert rates("1/s") == (Rate(1, 1),)
    assert rates(["1/s", "10/m"]) == (Rate(1, 1), Rate(10, 60))
    assert rates([]) == rates(None) == ()
