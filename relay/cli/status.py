"""`relay status`: queues, lanes and workers, as tables or JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relay.cli import common
from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.settings.digest import digest
from relay.settings.durations import format_duration
from relay.settings.models import Settings
from relay.store.fleet_findings import findings, has_other_settings
from relay.store.neighbours import Rival, rivals
from relay.store.overview import LaneStatus, Overview, read_overview
from relay.store.pause import Pause
from relay.store.states import State
from relay.text import printable

REFRESH = 1.0
"""Seconds between two refreshes with `--watch`."""

OUTBOX_BACKLOG = 1000
"""The table shows a lane's outbox above so many entries. Workers forward entries at once."""

LONGEST_WHY = 60
"""Characters of a provider's answer in the table."""

LONGEST_PAUSE = 200
"""Characters of an operator's reason, with name and time."""

_COLOURS: Final[Mapping[str, str]] = {
    State.RUNNING: "green",
    State.PAUSED: "yellow",
    State.THROTTLED: "yellow",
    State.OPEN: "red",
    State.TRIAL: "yellow",
    State.UNAUTHORISED: "bold red",
    State.UNREGISTERED: "bold red",
    State.FAULTY: "bold red",
}


def status(
    context: typer.Context,
    config: common.ConfigOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C, and show rates.")
    ] = False,
    as_json: common.JsonOption = False,
) -> None:
    """Show queues, lanes and workers.

    Example: `relay status --watch`
    """
    settings = common.load_settings(context, config)
    common.run(_watch(settings, as_json=as_json) if watch else _once(settings, as_json=as_json))


async def _once(settings: Settings, *, as_json: bool) -> None:
    async with common.redis(settings) as client:
        overview = await read_overview(client, settings)
        others = await _rivals(client, settings)
    if as_json:
        typer.echo(json.dumps(as_data(settings, overview, others), indent=2))
    else:
        common.data.print(tables(settings, overview, None, others))


async def _rivals(client: Client, settings: Settings) -> list[Rival]:
    return await rivals(client, settings.redis.prefix, (queue.name for queue in settings.queues))


async def _watch(settings: Settings, *, as_json: bool) -> None:
    before: Overview | None = None
    async with common.redis(settings) as client:
        others = await _rivals(client, settings)
        if as_json:
            while True:
                typer.echo(json.dumps(as_data(settings, await read_overview(client, settings), others)))
                await asyncio.sleep(REFRESH)
        with Live(console=common.data, auto_refresh=False, screen=common.data.is_terminal) as live:
            while True:
                try:
                    overview = await read_overview(client, settings)
                except StoreError as error:
                    live.update(Text(printable(f"Redis failed: {error}"), style="red"), refresh=True)
                else:
                    live.update(tables(settings, overview, before, others), refresh=True)
                    before = overview
                await asyncio.sleep(REFRESH)


def rate_text(settings: Settings, provider: str) -> str:
    """Return the configured rate, nearly as the operator wrote it."""
    if provider not in settings.providers:
        return ""
    rates = settings.providers[provider].rate
    return ", ".join(str(rate) for rate in rates) or "unlimited"


def as_data(settings: Settings, overview: Overview, others: Sequence[Rival] = ()) -> dict[str, Any]:
    """Return the document of `--json`."""
    return {
        "at": overview.at,
        "queues": [
            {
                "name": queue.name,
                "waiting": queue.waiting,
                "taken": queue.taken,
                "dead": queue.rejected,
                "oldest_seconds": None,
                "error": queue.error or None,
                "configured": queue.configured,
            }
            for queue in overview.queues
        ],
        "lanes": [
            {
                "provider": lane.provider,
                "state": lane.state,
                "why": lane.why,
                "hold_seconds": round(lane.hold, 3),
                "pause": _pause(lane.pause),
                "rate": rate_text(settings, lane.provider),
                "waiting": lane.waiting,
                "delayed": lane.delayed,
                "in_flight": lane.in_flight,
                "dead": lane.dead,
                "configured": lane.configured,
                "error": lane.error or None,
                "suspects": lane.suspects,
                "outbox": lane.outbox,
                "outbox_lost": lane.outbox_lost,
                **lane.totals,
            }
            for lane in overview.lanes
        ],
        "workers": [
            {
                "worker": member.info.worker,
                "host": member.info.host,
                "pid": member.info.pid,
                "version": member.info.version,
                "age": round(overview.at - member.info.started, 1),
                "silent": round(member.silent, 1),
                "alive": member in overview.alive,
                "settings": member.info.settings,
                "supervisor": member.info.deployment.supervisor,
                "reload_failed": msgspec.to_builtins(member.info.deployment.reload_failure),
            }
            for member in (*overview.workers, *overview.lost)
        ],
        "findings": findings(overview, digest(settings), others),
        "errors": list(overview.errors),
    }


def _pause(pause: Pause | None) -> dict[str, Any] | None:
    if pause is None:
        return None
    return {"by": pause.by, "at": pause.at or None, "until": pause.until or None, "reason": pause.reason}


def tables(
    settings: Settings, overview: Overview, before: Overview | None, others: Sequence[Rival] = ()
) -> RenderableType:
    """Return the tables for people. With an earlier overview, they include rates."""
    parts: list[RenderableType] = [
        *(_lanes(settings, overview, before), ""),
        *(_queues(overview), ""),
        _workers(overview, digest(settings)),
        *(Text(printable(line), style="yellow") for line in findings(overview, digest(settings), others)),
    ]
    parts += [Text(printable(f"Redis refused {error}"), style="red") for error in overview.errors]
    parts += [Text(note, style="bold red") for note in _outbox_notes(overview)]
    if not overview.alive:
        parts.append(Text("No worker is alive: start one with `relay run`.", style="bold red"))
    return Group(*parts)


def _outbox_notes(overview: Overview) -> Iterator[str]:
    """Yield one line for each lane with a backlog of receipts and feedback."""
    for lane in overview.lanes:
        if lane.outbox > OUTBOX_BACKLOG:
            yield f"{lane.provider}: {lane.outbox:,} receipts or feedback entries wait; see the workers' log."


def _table(title: str, *names: str) -> Table:
    """Return a table whose lane form fits a terminal of 80 columns."""
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
    return table


def _lanes(settings: Settings, overview: Overview, before: Overview | None) -> Table:
    table = _table("Lanes", "provider", "state")
    # Rates need two overviews.
    names = ("rate", "now") if before else ("rate",)
    for name in (*names, "waiting", "delayed", "flight", "delivered", "failed", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    earlier = {lane.provider: lane for lane in before.lanes} if before else {}
    for lane in overview.lanes:
        table.add_row(
            Text(lane.provider),
            _state(lane),
            rate_text(settings, lane.provider),
            *([_speed(lane, earlier.get(lane.provider), overview.at - before.at)] if before else []),
            *(
                f"{number:,}"
                for number in (lane.waiting, lane.delayed, lane.in_flight, lane.totals["delivered"])
            ),
            f"{lane.totals['failed']:,}",
            Text(f"{lane.dead:,}", style="red" if lane.dead else ""),
        )
    return table


def _state(lane: LaneStatus) -> Text:
    if lane.error:
        return Text(printable(lane.error), style="bold red")
    if not lane.configured:
        return Text("not in the file", style="bold red")
    text = lane.state
    if lane.hold:
        text += f" {format_duration(round(lane.hold))}"
    if lane.why:
        longest = LONGEST_WHY if lane.pause is None else LONGEST_PAUSE
        text += f": {printable(lane.why[:longest])}"
    if lane.suspects:
        text += f" ({lane.suspects:,} {'suspect' if lane.suspects == 1 else 'suspects'})"
    return Text(text, style=_COLOURS.get(lane.state, ""))


def _speed(lane: LaneStatus, earlier: LaneStatus | None, seconds: float) -> str:
    if earlier is None or seconds <= 0:
        return ""
    return f"{(lane.totals['delivered'] - earlier.totals['delivered']) / seconds:,.0f}/s"


def _queues(overview: Overview) -> Table:
    table = _table("Queues", "queue")
    for name in ("waiting", "taken", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
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
    table = _table("Workers", "host", "pid", "version", "settings", "age", "heartbeat")
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
