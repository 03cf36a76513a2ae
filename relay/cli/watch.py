"""`relay status --watch` on a terminal: the fleet on the whole screen, with keys that act on a lane.

Only this module and `watch_dialogs` import Textual, which the extra `[watch]` installs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.console import Group
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Input, Static

from relay.cli.lane_rows import COLUMNS, lane_row
from relay.cli.rows import shown_columns
from relay.cli.status_view import queues_table, workers_table
from relay.cli.watch_dialogs import DeadLetters, PauseDialog, PauseOrder, ResumeDialog, reasons_of
from relay.errors import RelayError, StoreError
from relay.operations import lanes as operations
from relay.operations.summary import in_trouble, summary, trouble_first
from relay.operations.who import operator
from relay.redis_client.client import Client
from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.store.fleet_findings import findings
from relay.store.neighbours import ForeignWorker, foreign_workers
from relay.store.overview import LaneStatus, Overview, read_overview
from relay.text import one_line, printable

REFRESH = 1.0
"""Seconds between two refreshes."""

WIDE = 150
"""Columns from which figures are written out. A table with a cursor needs more room than plain text."""

SORTS: dict[str, Callable[[LaneStatus], float | str]] = {
    "trouble": lambda lane: 0,
    "name": lambda lane: lane.provider,
    "waiting": lambda lane: -lane.waiting,
    "oldest": lambda lane: -(lane.oldest_seconds or 0.0),
    "dead": lambda lane: -lane.dead,
    "errors": lambda lane: -lane.recent.errors_per_second,
}
"""The orders of the lanes, which `s` goes through. Equal lanes stay as `trouble` has them."""


class WatchApp(App[None]):
    """The screen. `refresh_now` is its step."""

    CSS = """
    #summary { padding: 0 1; height: auto; max-height: 4; }
    #lanes { height: 2fr; }
    #why { padding: 0 1; height: auto; max-height: 5; }
    #rest { height: 1fr; padding: 0 1; }
    #filter { display: none; }
    #filter.open { display: block; }
    Static { width: 100%; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        ("slash", "filter", "Filter"),
        ("s", "sort", "Sort"),
        ("p", "pause", "Pause"),
        ("r", "resume", "Resume"),
        ("d", "dead", "Dead letters"),
        ("escape", "clear_filter", "All lanes"),
        ("q", "quit", "Quit"),
        ("ctrl+c", "quit", "Quit"),
    ]

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, client: Client, settings: Settings, *, refresh: float = REFRESH) -> None:
        super().__init__()
        self._client = client
        self._settings = settings
        self._interval = refresh
        self._overview: Overview | None = None
        self._others: Sequence[ForeignWorker] | None = None
        self._sort = "trouble"
        self._shown: dict[str, LaneStatus] = {}

    def compose(self) -> ComposeResult:
        """Return the parts of the screen, from top to bottom."""
        yield Static(id="summary")
        yield Input(placeholder="part of a lane's name, state or reason", id="filter")
        yield DataTable(id="lanes", cursor_type="row", zebra_stripes=True)
        yield Static(id="why")
        with VerticalScroll(id="rest"):
            yield Static(id="tables")
        yield Footer()

    def on_mount(self) -> None:
        """Start to refresh."""
        self.query_one("#lanes", DataTable).focus()
        self._refresh_forever()

    @work
    async def _refresh_forever(self) -> None:
        while True:
            began = time.monotonic()
            await self.refresh_now()
            # A fleet of thousands of lanes takes a while to read, and must not keep a core busy.
            await asyncio.sleep(max(self._interval, 2 * (time.monotonic() - began)))

    async def refresh_now(self) -> None:
        """Read the fleet once, and show it."""
        try:
            if self._others is None:
                queues = (queue.name for queue in self._settings.queues)
                self._others = await foreign_workers(self._client, self._settings.redis.prefix, queues)
            self._overview = await read_overview(self._client, self._settings)
        except StoreError as error:
            text = Text(one_line(f"Redis failed: {error}"), style="bold red")
            self.query_one("#summary", Static).update(text)
            return
        self._show()

    def on_resize(self) -> None:
        """Choose the columns for the new width."""
        self._show()

    def _show(self) -> None:
        overview = self._overview
        if overview is None:
            return
        style = "bold red" if in_trouble(overview) else "bold green"
        order = "" if self._sort == "trouble" else f" [by {self._sort}]"
        self.query_one("#summary", Static).update(Text(summary(overview) + order, style=style))
        self._show_lanes(overview)
        settings = digest(self._settings)
        notes = findings(overview, settings, self._others or ())
        self.query_one("#tables", Static).update(
            Group(
                queues_table(overview.queues),
                "",
                workers_table(overview, settings),
                *(Text(printable(line), style="yellow") for line in notes),
            )
        )

    def _show_lanes(self, overview: Overview) -> None:
        table: DataTable[Text] = self.query_one("#lanes", DataTable)
        selected, scrolled = self._selected(), table.scroll_offset
        wide = self.size.width >= WIDE
        lanes = [lane for lane in trouble_first(overview.lanes) if self._matches(lane)]
        lanes.sort(key=SORTS[self._sort])
        self._shown = {lane.provider: lane for lane in lanes}
        rows = {lane.provider: lane_row(lane) for lane in lanes}
        columns = shown_columns(COLUMNS, list(rows.values()), wide=wide)
        table.clear(columns=True)
        table.add_column("lane")
        for index in columns:
            column = COLUMNS[index]
            table.add_column(column.name if wide or not column.short else column.short)
        for provider, row in rows.items():
            cells = (row.cells[index].text(wide=wide) for index in columns)
            table.add_row(Text(row.name), *cells, key=provider)
        names = list(self._shown)
        if selected in self._shown:
            table.move_cursor(row=names.index(selected), scroll=False)
            table.scroll_to(y=scrolled.y, animate=False)
        self._show_why()

    def _matches(self, lane: LaneStatus) -> bool:
        wanted = self.query_one("#filter", Input).value.strip().lower()
        return wanted in f"{lane.provider} {lane.state} {lane.why}".lower()

    def _selected(self) -> str:
        table = self.query_one("#lanes", DataTable)
        names = list(self._shown)
        return names[table.cursor_row] if 0 <= table.cursor_row < len(names) else ""

    def _show_why(self) -> None:
        lane = self._shown.get(self._selected())
        row = None if lane is None else lane_row(lane)
        text = f"{row.name}: {row.note}" if row is not None and row.note else ""
        self.query_one("#why", Static).update(Text(text, style="" if row is None else row.style))

    def on_data_table_row_highlighted(self) -> None:
        """Show the reason of the lane under the cursor."""
        self._show_why()

    def action_filter(self) -> None:
        """Open the line that filters lanes."""
        line = self.query_one("#filter", Input)
        line.add_class("open")
        line.focus()

    def action_clear_filter(self) -> None:
        """Show all lanes."""
        line = self.query_one("#filter", Input)
        line.value = ""
        line.remove_class("open")
        self.query_one("#lanes", DataTable).focus()

    def on_input_changed(self) -> None:
        """Filter while the operator types."""
        self._show()

    def on_input_submitted(self) -> None:
        """Return to the lanes, and keep the filter."""
        self.query_one("#lanes", DataTable).focus()

    def action_sort(self) -> None:
        """Sort the lanes by the next figure."""
        names = list(SORTS)
        self._sort = names[(names.index(self._sort) + 1) % len(names)]
        self._show()

    @work
    async def action_pause(self) -> None:
        """Ask for a reason and a time, and pause the lane under the cursor."""
        if provider := self._selected():
            order = await self.push_screen_wait(PauseDialog(provider))
            if order is not None:
                await self._act(f"{provider} is paused", lambda: self._pause(provider, order))

    @work
    async def action_resume(self) -> None:
        """Ask, and resume the lane under the cursor."""
        if provider := self._selected():
            because = await self.push_screen_wait(ResumeDialog(provider))
            if because is not None:
                await self._act(f"{provider} is resumed", lambda: self._resume(provider, because))

    @work
    async def action_dead(self) -> None:
        """Show the dead letters of the lane under the cursor, by reason."""
        if provider := self._selected():
            try:
                found = await reasons_of(self._client, self._settings.redis.prefix, provider)
            except StoreError as error:
                self._notify(error)
                return
            await self.push_screen_wait(DeadLetters(provider, self._shown[provider].dead, found))

    async def _pause(self, provider: str, order: PauseOrder) -> None:
        await operations.pause(
            self._client,
            self._settings,
            provider,
            seconds=operations.pause_seconds(order.duration or None),
            because=order.because,
            who=operator(),
        )

    async def _resume(self, provider: str, because: str) -> None:
        await operations.resume(self._client, self._settings, provider, because=because, who=operator())

    async def _act(self, done: str, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except RelayError as error:
            self._notify(error)
        else:
            self.notify(done, markup=False)
            await self.refresh_now()

    def _notify(self, error: RelayError) -> None:
        self.notify(one_line(str(error)), severity="error", markup=False)
