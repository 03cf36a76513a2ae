"""Rows of figures for a terminal of any width, each with its reason on lines of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

WIDE = 110
"""Columns from which a terminal is wide: figures are written out, and no column is left out."""

SHORTEST_NAME = 9
"""Characters of a name that are always shown."""

MOST_NOTE_LINES = 3
"""Lines of one reason."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in its long form, and in a short one for narrow terminals."""

    long: str = ""
    short: str | None = None
    style: str = ""

    def text(self, *, wide: bool) -> Text:
        return Text(self.long if wide or self.short is None else self.short, style=self.style)


@dataclass(frozen=True, slots=True)
class Column:
    """A column after the name. `short` is its name on a narrow terminal."""

    name: str
    short: str = ""
    is_text: bool = False
    is_optional: bool = False
    """Left out of a narrow terminal if all of its cells are empty."""
    needs_width: bool = False
    """Always left out of a narrow terminal."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `note` is a reason, `name` has to be printable."""

    name: str
    cells: Sequence[Cell]
    note: str = ""
    style: str = ""


def shown_columns(columns: Sequence[Column], rows: Sequence[Row], *, wide: bool) -> list[int]:
    """Return the indices of the columns that a terminal shows."""
    return [
        index
        for index, column in enumerate(columns)
        if wide
        or not (column.needs_width or (column.is_optional and not any(row.cells[index].long for row in rows)))
    ]


@dataclass(frozen=True)
class Rows:
    """A table. No line is wider than the terminal."""

    title: str
    name: str
    columns: Sequence[Column]
    rows: Sequence[Row] = field(default_factory=tuple)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(console, options.max_width)

    def lines(self, console: Console, width: int) -> Iterable[Text]:
        """Yield the lines for a terminal of this width."""
        wide = width >= WIDE
        shown = shown_columns(self.columns, self.rows, wide=wide)
        headers = [self._header(self.columns[index], wide=wide) for index in shown]
        body = [[row.cells[index].text(wide=wide) for index in shown] for row in self.rows]
        widths = [max(cell.cell_len for cell in cells) for cells in zip(headers, *body, strict=True)]
        longest = max(Text(name).cell_len for name in (self.name, *(row.name for row in self.rows)))
        room = width - sum(widths) - len(widths)
        first = min(longest, max(SHORTEST_NAME, room))
        yield Text(self.title, style="bold")
        yield self._line(Text(self.name), headers, first, widths, shown, width)
        for row, cells in zip(self.rows, body, strict=True):
            yield self._line(Text(row.name), cells, first, widths, shown, width)
            if row.note:
                yield from _note(console, row, width)

    def _header(self, column: Column, *, wide: bool) -> Text:
        return Text(column.name if wide or not column.short else column.short, style="dim")

    def _line(
        self,
        name: Text,
        cells: Sequence[Text],
        first: int,
        widths: Sequence[int],
        shown: Sequence[int],
        width: int,
    ) -> Text:
        name.truncate(first, overflow="ellipsis", pad=True)
        line = name
        for cell, size, index in zip(cells, widths, shown, strict=True):
            padded = cell.copy()
            padded.align("left" if self.columns[index].is_text else "right", size)
            line = line + Text(" ") + padded
        line.truncate(width)
        line.rstrip()
        return line


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text of any length, wrapped at words."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _wrapped(console, Text(self.text, style=self.style), options.max_width)


def _wrapped(console: Console, text: Text, width: int) -> list[Text]:
    lines = list(text.wrap(console, width, overflow="fold", no_wrap=False))
    for line in lines:
        line.rstrip()
    return lines


def _note(console: Console, row: Row, width: int) -> Iterable[Text]:
    """Yield the reason with its name, so that it is complete even if the name was cut."""
    lines = _wrapped(console, Text(f"{row.name}: {row.note}", style=row.style), max(20, width - 2))
    for index, line in enumerate(lines[:MOST_NOTE_LINES]):
        if index == MOST_NOTE_LINES - 1 and len(lines) > MOST_NOTE_LINES:
            line.append(" …")
            line.truncate(max(20, width - 2), overflow="ellipsis")
        yield Text("  ") + line


def count(number: int) -> Cell:
    """Return a number; empty if it is 0."""
    return Cell(f"{number:,}" if number else "", short_count(number) if number else "")


def short_count(number: int) -> str:
    """Return a number in at most five characters: `9,999`, `12.0k`, `1.2M`."""
    if number < 10_000:
        return f"{number:,}"
    for size, unit in ((1000, "k"), (1_000_000, "M"), (1_000_000_000, "G")):
        if number < 999.5 * size or unit == "G":
            scaled = number / size
            return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"
    raise AssertionError("unreachable")


def short_duration(seconds: float) -> str:
    """Return a duration in at most five characters for a year: `59s`, `59m`, `5h12m`, `23h`, `12d`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    if whole < 36_000:
        return f"{whole // 3600}h{whole % 3600 // 60}m"
    return f"{whole // 3600}h" if whole < 172_800 else f"{whole // 86_400}d"


def short_rate(per_second: float) -> str:
    """Return a rate in at most five characters: `0.02`, `4.5`, `98`, `12.0k`."""
    if per_second < 0.995:
        return f"{per_second:.2f}"
    return f"{per_second:.1f}" if per_second < 9.95 else short_count(round(per_second))
