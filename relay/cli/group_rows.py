"""The groups of a lane in `relay status PROVIDER`, as two tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from relay.cli.tables import status_table
from relay.settings.durations import rough_duration
from relay.store.groups import LONGEST_NAME, Groups, GroupStatus
from relay.store.states import GroupState
from relay.text import printable, shortened

MOST_ROWS = 20
"""Groups in a table. The JSON document has all that were read."""

LONGEST_WHY = 120
"""Characters of a reason in a table."""

_COLOURS: Final[Mapping[str, str]] = {
    GroupState.RUNNING: "green",
    GroupState.LIMITED: "green",
    GroupState.FULL: "yellow",
    GroupState.THROTTLED: "yellow",
    GroupState.OPEN: "red",
    GroupState.PAUSED: "yellow",
    GroupState.DISABLED: "bold red",
}


def group_tables(groups: Groups) -> Iterator[Table | Text]:
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


def _table(title: str, groups: Iterable[GroupStatus]) -> Table:
    table = status_table(title, "group", "state", numbers=("waiting", "flight", "oldest", "failures"))
    for group in groups:
        table.add_row(
            Text(shortened(group.group, LONGEST_NAME)),
            _state(group),
            f"{group.waiting:,}",
            f"{group.in_flight:,}",
            "" if group.oldest is None else rough_duration(group.oldest),
            Text(f"{group.failures:,}", style="red" if group.failures else ""),
        )
    return table


def _state(group: GroupStatus) -> Text:
    text = str(group.state)
    if group.hold:
        text += f" {rough_duration(group.hold)}"
    if group.why:
        text += f": {printable(group.why[:LONGEST_WHY])}"
    return Text(text, style=_COLOURS[group.state])
