"""The form that all tables of `relay status` share."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table


def status_table(title: str, *names: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return a table with columns of text, then of numbers. Its form fits a terminal of 80 columns."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
