"""The failed attempts that a message keeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.store.attempts import LONGEST_REASON, MOST, Attempt, appended, decode, encode, of_tries

ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        at=st.integers(0, 4_000_000_000).map(float),
        status=st.sampled_from([0, 503]),
        reason=st.sampled_from(["", "503: down", "gr\u00fc\u00dfe \u2028"]),
        worker=st.sampled_from(["w1", "w2"]),
    ),
    max_size=MOST + 5,
)


@given(ATTEMPTS)
def test_the_newest_attempts_are_kept_as_they_were(attempts: list[Attempt]) -> None:
    history = ""
    for attempt in attempts:
        history = appended(history, attempt)
    assert decode(history) == attempts[-MOST:]
    assert of_tries(f"2:3:0:0:1 {history}" if history else "2:3:0:0") == attempts[-MOST:]


def test_repeated_attempts_take_little_room() -> None:
    attempts = [Attempt(1_800_000_000.0 + second, 503, "x" * 150, "host-1:4711:ab12") for second in range(10)]
    assert len(encode(attempts)) < 400


def test_a_long_reason_is_cut_between_characters() -> None:
    (attempt,) = decode(appended("", Attempt(1.0, 0, "\u20ac" * 100)))
    assert attempt.reason == "\u20ac" * (LONGEST_REASON // 3)


@given(st.one_of(st.text(), st.sampled_from(['[["x"]]', "[[1,2]]", '[[1,"a","b"]]', "[[]]", "{}"])))
def test_an_unreadable_history_is_none(text: str) -> None:
    assert isinstance(decode(text), list)
