"""JSON without needless escapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers._shared.utf8_json import without_escapes

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TREE = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(TREE)
def test_the_json_means_the_same_and_is_as_short_as_it_can_be(tree: Any) -> None:
    found = without_escapes(json.dumps(tree).encode())
    assert json.loads(found) == tree
    assert len(found) <= len(json.dumps(tree, ensure_ascii=False).encode()) + 5 * found.count(b"\\u")
    assert without_escapes(found) == found


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (rb'"\u0436"', '"ж"'.encode()),
        (rb'"\ud83d\ude00"', '"😀"'.encode()),
        (rb'"\\u0436"', rb'"\\u0436"'),
        (rb'"\\\u0436"', rb'"\\' + "ж".encode() + b'"'),
        (rb'"\u0022 \u005c \u000a \n"', rb'"\u0022 \u005c \u000a \n"'),
        (rb'"\ud83d"', rb'"\ud83d"'),
        (rb'{"n": 1.10,  "big": 123456789012345678901234567890}',) * 2,
    ],
)
def test_an_escape_that_json_needs_stays(written: bytes, found: bytes) -> None:
    assert without_escapes(written) == found
