"""Foreign text as one printable line: escaped, shortened, without passwords."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.text import (
    enumerated,
    excerpt,
    one_line,
    printable,
    printable_json,
    quote,
    shortened,
    without_userinfo,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT)
def test_any_text_becomes_one_printable_line(text: str) -> None:
    for line in (one_line(text), excerpt(text), printable(text), shortened(text, 20), quote(text)):
        assert line.isprintable()
    assert len(one_line(text * 50)) <= 500
    assert len(excerpt(text * 50)) <= 200
    assert len(shortened(text * 50, 20)) <= 20
    if text.isprintable():
        assert printable(text) == text


def test_a_terminal_shows_control_characters_escaped() -> None:
    shown: Any = printable("\x1b[31m\n\u202ex\U000e0041")
    assert shown == "\\x1b[31m\\n\\u202ex\\U000e0041"
    assert printable("a\nb\x07", keep="\n") == "a\nb\\x07"


@given(st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_a_printable_json_document_has_the_same_values(document: dict[str, str]) -> None:
    text = printable_json(json.dumps(document, indent=2, ensure_ascii=False), keep="\n")
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == json.loads(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("fast", '"fast"'),
        ('a "b"\n', '"a \\"b\\"\\n"'),
        ("\u202e", '"\\u202e"'),
        ("x" * 61, f'"{"x" * 60}…"'),
        ("redis://user:hush-hush@host/0?password=hush", '"redis://user:***@host/0?password=***"'),
    ],
)
def test_a_quoted_value_is_short_and_has_no_password(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("redis://user:p@ss@host:1/0", "redis://host:1/0"),
        ("redis://host/a@b", "redis://host/a@b"),
        ("unix:///tmp/redis.sock", "unix:///tmp/redis.sock"),
    ],
)
def test_a_url_without_userinfo_keeps_host_and_path(url: str, bare: str) -> None:
    assert without_userinfo(url) == bare


def test_a_list_of_a_thousand_names_is_short() -> None:
    assert enumerated(["a", "b"]) == "a, b"
    assert enumerated(map(str, range(10))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert enumerated(map(str, range(1010))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,000 more"
