"""`relay status`: queues, lanes and workers, as tables or JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Protocol

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relay.cli import common
from relay.cli.group_rows import group_tables
from relay.cli.lane_rows import lanes_table
from relay.cli.tables import status_table
from relay.errors import StoreError
from relay.operations.documents import fleet_document, provider_document
from relay.redis_client.client import Client
from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.store.fleet_findings import findings, has_other_settings, lane_findings
from relay.store.neighbours import ForeignWorker, foreign_workers
from relay.store.overview import Overview, read_overview, read_provider
from relay.text import printable

REFRESH = 1.0
"""Seconds between two refreshes with `--watch`."""

OUTBOX_BACKLOG = 1000
"""The tables mention an outbox with more entries than this. Normally, workers forward entries at once."""


def status(
    context: typer.Context,
    provider: Annotated[
        str | None,
        typer.Argument(metavar="PROVIDER", help="Show only this provider, with its groups of messages."),
    ] = None,
    config: common.ConfigOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C, and show rates.")
    ] = False,
    as_json: common.JsonOption = False,
) -> None:
    """Show queues, lanes and workers, or one provider with its groups.

    Example: `relay status --watch`
    """
    settings = common.load_settings(context, config)
    view = FleetView(settings) if provider is None else ProviderView(settings, provider)
    common.run(_watch(view, settings, as_json=as_json) if watch else _once(view, settings, as_json=as_json))


class View(Protocol):
    """A part of the fleet, and how it is shown."""

    async def read(self, client: Client) -> Overview: ...

    def document(self, overview: Overview) -> dict[str, Any]: ...

    def tables(self, overview: Overview, before: Overview | None) -> RenderableType: ...


async def _once(view: View, settings: Settings, *, as_json: bool) -> None:
    async with common.redis(settings) as client:
        overview = await view.read(client)
    if as_json:
        typer.echo(json.dumps(view.document(overview), indent=2))
    else:
        common.data.print(view.tables(overview, None))


async def _watch(view: View, settings: Settings, *, as_json: bool) -> None:
    before: Overview | None = None
    async with common.redis(settings) as client:
        if as_json:
            while True:
                typer.echo(json.dumps(view.document(await view.read(client))))
                await asyncio.sleep(REFRESH)
        with Live(console=common.data, auto_refresh=False, screen=common.data.is_terminal) as live:
            while True:
                try:
                    overview = await view.read(client)
                except StoreError as error:
                    live.update(Text(printable(f"Redis failed: {error}"), style="red"), refresh=True)
                else:
                    live.update(view.tables(overview, before), refresh=True)
                    before = overview
                await asyncio.sleep(REFRESH)


class FleetView:
    """All queues, lanes and workers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._others: Sequence[ForeignWorker] | None = None

    async def read(self, client: Client) -> Overview:
        """Read everything; workers of other fleets are looked for only the first time."""
        overview = await read_overview(client, self._settings)
        if self._others is None:
            queues = (queue.name for queue in self._settings.queues)
            self._others = await foreign_workers(client, self._settings.redis.prefix, queues)
        return overview

    def document(self, overview: Overview) -> dict[str, Any]:
        return fleet_document(overview, digest(self._settings), self._others or ())

    def tables(self, overview: Overview, before: Overview | None) -> RenderableType:
        return tables(self._settings, overview, before, self._others or ())


class ProviderView:
    """One lane with its groups."""

    def __init__(self, settings: Settings, provider: str) -> None:
        self._settings = settings
        self._provider = provider

    async def read(self, client: Client) -> Overview:
        """Read the lane. Raises UsageError if neither the file nor Redis knows the provider."""
        overview = await read_provider(client, self._settings, self._provider)
        if not overview.lanes:
            common.require_provider(self._settings, self._provider)
        return overview

    def document(self, overview: Overview) -> dict[str, Any]:
        return provider_document(overview)

    def tables(self, overview: Overview, before: Overview | None) -> RenderableType:
        parts: list[RenderableType] = [lanes_table(overview, before)]
        for lane in overview.lanes:
            for table in group_tables(lane.groups):
                parts += ["", table]
        parts += ["", *(Text(line, style="yellow") for line in lane_findings(overview.lanes))]
        return Group(*parts, *_notes(overview))


def tables(
    settings: Settings, overview: Overview, before: Overview | None, others: Sequence[ForeignWorker] = ()
) -> RenderableType:
    """Return the tables for people. With an earlier overview, they include rates."""
    parts: list[RenderableType] = [
        *(lanes_table(overview, before), ""),
        *(_queues(overview), ""),
        _workers(overview, digest(settings)),
        *(Text(printable(line), style="yellow") for line in findings(overview, digest(settings), others)),
    ]
    return Group(*parts, *_notes(overview))


def _notes(overview: Overview) -> Iterator[Text]:
    """Yield a line for each problem that needs an operator."""
    for error in overview.errors:
        yield Text(printable(f"Redis refused {error}"), style="red")
    for note in _outbox_notes(overview):
        yield Text(note, style="bold red")
    if not overview.alive:
        yield Text("No worker is alive: start one with `relay run`.", style="bold red")


def _outbox_notes(overview: Overview) -> Iterator[str]:
    """Yield one line for each lane with a backlog of receipts and feedback."""
    for lane in overview.lanes:
        if lane.outbox > OUTBOX_BACKLOG:
            yield f"{lane.provider}: {lane.outbox:,} receipts or feedback entries wait; see the workers' log."


def _queues(overview: Overview) -> Table:
    table = status_table("Queues", "queue", numbers=("waiting", "taken", "dead"))
    for queue in overview.queues:
        problem = queue.error or ("" if queue.configured else "not in the file")
        table.add_row(
            Text(printable(f"{queue.name}: {problem}"), style="bold red")
            if problem
            else Text(printable(queue.name)),
            *(f"{number:,}" for number in (queue.waiting, queue.taken, queue.rejected)),
        )
    return table


def _workers(overview: Overview, settings: str) -> Table:
    table = status_table("Workers", "host", "pid", "version", "settings", "age", "heartbeat")
    for member in (*overview.workers, *overview.lost):
        info = member.info
        beat = Text(f"{member.silent:.0f}s ago", style="" if member in overview.alive else "red")
        if member in overview.lost:
            beat = Text(f"died {member.silent:.0f}s ago", style="red")
        age = f"{overview.at - info.started:,.0f}s"
        words = (info.host, str(info.pid), info.version)
        differs = has_other_settings(info, settings)
        file = Text("other file" if differs else info.settings and "this file", "yellow" if differs else "")
        table.add_row(*(Text(printable(word)) for word in words), file, age, beat)
    return table
