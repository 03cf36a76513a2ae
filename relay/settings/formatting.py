"""Parts of error messages: values as an operator wrote them, lists, suggestions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from relay.text import quote


def describe(value: object) -> str:
    """Return a value in few words: scalars as they are, structures by kind only."""
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
    """Return `a, b or c`."""
    *most, last = list(words) or ["nothing"]
    return f"{', '.join(most)} or {last}" if most else last


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return `did you mean …?` if a known word is similar, otherwise an empty string."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(word.casefold().replace("-", "_"), folded, n=1)
    return f"did you mean `{folded[close[0]]}`?" if close else ""
