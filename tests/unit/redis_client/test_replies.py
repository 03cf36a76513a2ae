"""Replies of Redis, however their bytes are cut into pieces."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError, InvalidResponse

from relay.redis_client.replies import AllReplies, Replies, ShortTexts

LONGEST = 20
TEXTS = st.lists(
    st.one_of(st.none(), st.binary(max_size=3 * LONGEST), st.just(ValueError("WRONGTYPE no list")))
)


def encode(reply: Any, *, nothing: bytes = b"$-1\r\n") -> bytes:
    match reply:
        case None:
            return nothing
        case ValueError():
            return b"-%s\r\n" % str(reply).encode()
        case _:
            return b"$%d\r\n%s\r\n" % (len(reply), reply)


def read(replies: Replies, data: bytes, cuts: list[int]) -> list[str]:
    """All replies, if the bytes arrive in pieces."""
    found: list[str] = []
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        found += [repr(reply) for reply in replies.feed(data[start:end])]
    return found


@given(texts=TEXTS, cuts=st.lists(st.integers(0, 10_000), max_size=20))
@pytest.mark.parametrize("nothing", [b"$-1\r\n", b"*-1\r\n"])
def test_a_long_text_is_dropped_and_all_other_replies_are_read(
    texts: list[Any], cuts: list[int], nothing: bytes
) -> None:
    data = b"".join(encode(text, nothing=nothing) for text in texts)
    expected = [b"" if isinstance(text, bytes) and len(text) > LONGEST else text for text in texts]
    assert read(ShortTexts(ValueError, LONGEST), data, cuts) == [repr(text) for text in expected]
    assert read(AllReplies(ValueError), data, cuts) == [repr(text) for text in texts]


@pytest.mark.parametrize("replies", [lambda: ShortTexts(ValueError, LONGEST), lambda: AllReplies(ValueError)])
def test_bytes_that_are_no_reply_are_an_error(replies: Callable[[], Replies]) -> None:
    with pytest.raises((ConnectionError, InvalidResponse)):
        list(replies().feed(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
