"""The groups of a lane in `relay status PROVIDER`, as two tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rich.text import Text

from relay.cli.rows import Cell, Column, Row, Rows, count, short_duration
from relay.settings.durations import rough_duration
from relay.store.groups import LONGEST_NAME, Groups, GroupStatus
from relay.store.states import GroupState
from relay.text import one_line, shortened

MOST_ROWS = 20
"""Groups in a table. The JSON document has all that were read."""

_COLOURS: Final[Mapping[str, str]] = {
    GroupState.RUNNING: "green",
    GroupState.LIMITED: "green",
    GroupState.FULL: "yellow",
    GroupState.THROTTLED: "yellow",
    GroupState.OPEN: "red",
    GroupState.PAUSED: "yellow",
    GroupState.DISABLED: "bold red",
}


def group_tables(groups: Groups) -> Iterator[Rows | Text]:
    """Return a table of the largest groups, and one of those that fail."""
    if not groups.found:
        return
    about = "" if groups.complete else "about "
    largest = groups.found[:MOST_ROWS]
    yield _table(f"Groups by backlog ({len(largest)} of {about}{max(groups.total, len(largest)):,})", largest)
    if failing := groups.failing():
        shown = failing[:MOST_ROWS]
        yield _table(f"Groups by failures ({len(shown)} of {len(failing):,})", shown)
    if not groups.complete:
        yield Text("There are too many groups to read all: a sample shows the largest.", style="yellow")


COLUMNS: Final = (
    Column("state", is_text=True),
    Column("waiting", "wait"),
    Column("oldest", "age"),
    Column("in flight", "out"),
    Column("failures"),
)


def _table(title: str, groups: Iterable[GroupStatus]) -> Rows:
    return Rows(title, "group", COLUMNS, [_row(group) for group in groups])


def _row(group: GroupStatus) -> Row:
    style = _COLOURS[group.state]
    cells = (
        Cell(str(group.state), style=style),
        count(group.waiting),
        Cell() if group.oldest is None else Cell(rough_duration(group.oldest), short_duration(group.oldest)),
        count(group.in_flight),
        Cell(f"{group.failures:,}", style="red") if group.failures else Cell(),
    )
    hold = f" {rough_duration(group.hold)}" if group.hold else ""
    why = f": {one_line(group.why)}" if group.why else ""
    note = f"{group.state}{hold}{why}" if hold or why else ""
    return Row(shortened(group.group, LONGEST_NAME), cells, note, style)
