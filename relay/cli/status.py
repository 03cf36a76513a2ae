"""`relay status`: queues, lanes and workers, as tables or JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, NoReturn, Protocol

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from relay.cli import common
from relay.cli.status_view import fleet_view, provider_view
from relay.errors import StoreError, UsageError
from relay.extras import install
from relay.operations.document_types import FleetDocument, ProviderDocument
from relay.operations.documents import fleet_document, provider_document
from relay.operations.providers import require_provider
from relay.operations.summary import in_trouble, summary
from relay.redis_client.client import Client
from relay.settings.digest import digest
from relay.settings.models import Settings
from relay.store.neighbours import ForeignWorker, foreign_workers
from relay.store.overview import Overview, read_overview, read_provider
from relay.text import printable, rfc3339

REFRESH = 1.0
"""Seconds between two refreshes with `--watch`."""

INSTALL_HINT = f"{install('watch')} adds scrolling, a filter and keys that pause and resume."


def status(
    context: typer.Context,
    provider: Annotated[
        str | None,
        typer.Argument(metavar="PROVIDER", help="Show only this provider, with its groups of messages."),
    ] = None,
    config: common.ConfigOption = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", help="Fill the terminal and refresh every second, with keys that act on lanes."
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with code 1 if somebody has to act, for scripts.")
    ] = False,
    as_json: common.JsonOption = False,
) -> None:
    """Show queues, lanes and workers, or one provider with its groups.

    Example: `relay status --watch`
    """
    if watch and check:
        raise UsageError("--check reads the state once: leave out --watch")
    settings = common.load_settings(context, config)
    view = FleetView(settings) if provider is None else ProviderView(settings, provider)
    if watch:
        common.run(_watch(view, settings, as_json=as_json))
    elif in_trouble(common.run(_once(view, settings, as_json=as_json))) and check:
        raise typer.Exit(1)


class View(Protocol):
    """A part of the fleet, and how it is shown."""

    async def read(self, client: Client) -> Overview: ...

    def document(self, overview: Overview) -> FleetDocument | ProviderDocument: ...

    def tables(self, overview: Overview) -> RenderableType: ...


async def _once(view: View, settings: Settings, *, as_json: bool) -> Overview:
    async with common.redis(settings) as client:
        overview = await view.read(client)
    if as_json:
        typer.echo(common.as_json(view.document(overview)))
    else:
        common.data.print(view.tables(overview))
    return overview


async def _watch(view: View, settings: Settings, *, as_json: bool) -> None:
    async with common.redis(settings) as client:
        if as_json:
            while True:
                typer.echo(common.as_json(view.document(await view.read(client)), indent=None))
                await asyncio.sleep(REFRESH)
        if not common.data.is_terminal:
            await _print_lines(view, client)
        if isinstance(view, FleetView) and find_spec("textual"):
            from relay.cli.watch import WatchApp

            await WatchApp(client, settings).run_async()
            return
        hint = "" if isinstance(view, ProviderView) else INSTALL_HINT
        with Live(console=common.data, auto_refresh=False, screen=True) as live:
            while True:
                try:
                    shown = view.tables(await view.read(client))
                except StoreError as error:
                    shown = Text(printable(f"Redis failed: {error}"), style="red")
                live.update(Group(shown, Text(hint, style="dim")), refresh=True)
                await asyncio.sleep(REFRESH)


async def _print_lines(view: View, client: Client) -> NoReturn:
    """Print one line each time, for a file or a pipe."""
    while True:
        try:
            overview = await view.read(client)
        except StoreError as error:
            typer.echo(f"{_at(time.time())} Redis failed: {printable(str(error))}")
        else:
            typer.echo(f"{_at(overview.at)} {summary(overview)}")
        await asyncio.sleep(REFRESH)


def _at(moment: float) -> str:
    return rfc3339(moment)


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

    def document(self, overview: Overview) -> FleetDocument:
        return fleet_document(overview, digest(self._settings), self._others or ())

    def tables(self, overview: Overview) -> RenderableType:
        return fleet_view(overview, digest(self._settings), self._others or ())


class ProviderView:
    """One lane with its groups."""

    def __init__(self, settings: Settings, provider: str) -> None:
        self._settings = settings
        self._provider = provider

    async def read(self, client: Client) -> Overview:
        """Read the lane. Raises UsageError if neither the file nor Redis knows the provider."""
        overview = await read_provider(client, self._settings, self._provider)
        if not overview.lanes:
            require_provider(self._settings, self._provider)
        return overview

    def document(self, overview: Overview) -> ProviderDocument:
        return provider_document(overview)

    def tables(self, overview: Overview) -> RenderableType:
        return provider_view(overview)
