"""How a problem is worded: values as an operator wrote them, lists, near misses."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

from relay.text import mask_url

_LONGEST = 60  # characters of a value that are shown


def quote(text: str) -> str:
    """The text in double quotes on one line, shortened, safe to print, passwords in URLs masked."""
    shown = mask_url(text)
    if len(shown) > _LONGEST:
        shown = shown[:_LONGEST] + "…"
    return "".join(
        char if char.isprintable() else json.dumps(char)[1:-1]
        for char in json.dumps(shown, ensure_ascii=False)
    )


def describe(value: object) -> str:
    """A value in few words: scalars as they are, structures by kind only."""
    match value:
        case None | True | False:
            words = {None: "nothing", True: "true", False: "false"}[value]
        case str():
            words = quote(value)
        case int() | float():
            words = quote(str(value))[1:-1]
        case dict():
            words = "a mapping"
        case list() | tuple() | set():
            words = "a list"
        case _:
            words = f"a {type(value).__name__}"
    return words


def listing(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = list(words) or ["nothing"]
    return f"{', '.join(most)} or {last}" if most else last


def near_miss(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` where a known word is close, else the empty string."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(word.casefold().replace("-", "_"), folded, n=1)
    return f"did you mean `{folded[close[0]]}`?" if close else ""
