"""The rows of a table that may be long: the first ones, or those that match a filter, or all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from relay.admin.console.call import Call

RowT = TypeVar("RowT")

MOST = 100
"""Rows of one page."""

FIRST = 25
"""If there are more: a screenful. The filter finds the others, and the page opens fast and stays cheap."""


@dataclass(frozen=True, slots=True)
class Rows(Generic[RowT]):
    """The rows of a page."""

    shown: Sequence[RowT]
    matching: int
    total: int
    wanted: str
    """The filter."""


def first_rows(found: Sequence[RowT]) -> Sequence[RowT]:
    """Return the rows of a page without a filter."""
    return found if len(found) <= MOST else found[:FIRST]


def rows_of(call: Call, found: Sequence[RowT], matches: Callable[[RowT, str], bool]) -> Rows[RowT]:
    """Return the rows that the URL asks for: `?filter=TEXT`, and `all` for more than the first ones."""
    wanted = call.query("filter").strip().lower()
    matching = [row for row in found if matches(row, wanted)] if wanted else found
    shown = matching if "all" in call.request.query else first_rows(matching)
    return Rows(shown, len(matching), len(found), wanted)
