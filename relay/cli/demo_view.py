"""The terminal view of `relay demo`."""

from __future__ import annotations

import asyncio
import signal

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relay.cli import common
from relay.cli import demo_world as demo_run
from relay.cli.demo_world import BACKLOG, RATES, Demo, Moment
from relay.provider import discover

REFRESH = 0.25
"""Seconds between two refreshes."""

_BARS = " ▁▂▃▄▅▆▇█"


async def show(seconds: float | None) -> None:
    """Run the demo for this many seconds (None: until Ctrl-C), then print a summary."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with demo_run.running(discover()) as demo:
        moment = await _watch(demo, stop, seconds)
    common.data.print(_summary(moment), highlight=False)


async def _watch(demo: Demo, stop: asyncio.Event, seconds: float | None) -> Moment:
    """Refresh the view until the demo ends. Returns the last state."""
    terminal = common.data.is_terminal
    printed = 0
    if not terminal:
        typer.echo(f"console at {demo.console}")
    with Live(console=common.data, auto_refresh=False, transient=True) as live:
        while True:
            moment = await demo.moment()
            if terminal:
                live.update(_picture(demo, moment), refresh=True)
            elif int(moment.seconds) > printed:
                printed = int(moment.seconds)
                typer.echo(_line(moment))
            if stop.is_set() or (seconds is not None and moment.seconds >= seconds):
                return moment
            try:
                async with asyncio.timeout(REFRESH):
                    await stop.wait()
            except TimeoutError:
                continue


def _waiting(moment: Moment, provider: str) -> int:
    return moment.pushed[provider] - moment.accepted[provider]


def _line(moment: Moment) -> str:
    parts = [
        f"{provider}: pushed {moment.pushed[provider]}, delivered {moment.accepted[provider]} "
        f"({moment.history[provider][-1]}/s of {RATES[provider]}/s), waiting {_waiting(moment, provider)}"
        for provider in RATES
    ]
    return f"{moment.seconds:4.0f}s  " + "; ".join(parts)


def _picture(demo: Demo, moment: Moment) -> RenderableType:
    states = {lane.provider: lane.state for lane in moment.overview.lanes}
    panels = [panel(moment, provider, states[provider]) for provider in RATES]
    intro = Text.from_markup(
        f"Producers RPUSH to a real Redis. A backlog of {sum(BACKLOG.values()):,} waited when the worker\n"
        "started; it is sent at the configured rate and no faster. Ctrl-C ends it.\n"
        f"Console:            [link={demo.console}]{demo.console}[/link]\n"
        f"Received messages:  [link={demo.sandbox.url}]{demo.sandbox.url}/[/link]"
    )
    return Group(intro, *panels)


def panel(moment: Moment, provider: str, state: str) -> Panel:
    """Return the panel of a provider, which fits into 80 columns."""
    rate, history, busiest = RATES[provider], moment.history[provider], moment.busiest[provider]
    held = _waiting(moment, provider)
    numbers = Table.grid(padding=(0, 3))
    for _ in range(4):
        numbers.add_column()
    numbers.add_row(
        f"pushed [bold]{moment.pushed[provider]:,}[/]",
        f"delivered [bold green]{moment.accepted[provider]:,}[/]",
        f"held back by the rate [bold yellow]{held:,}[/]",
        f"now [bold]{history[-1]}/s[/]",
    )
    done = moment.accepted[provider] / max(1, moment.pushed[provider])
    width = 60
    bar = Text("█" * round(done * width), style="green") + Text(
        "░" * (width - round(done * width)), style="dim"
    )
    levels = "".join(_BARS[min(8, round(8 * count / (rate * 1.1)))] for count in history)
    body = Group(
        numbers,
        bar,
        Text(levels, style="cyan"),
        Text(f"a second each, the busiest {busiest}; {rate} and the burst are allowed", style="dim"),
    )
    return Panel(
        body, title=f"{provider}: {rate}/s", title_align="left", subtitle=state, subtitle_align="right"
    )


def _summary(moment: Moment) -> RenderableType:
    table = Table(title=f"After {moment.seconds:.0f} seconds", title_justify="left", header_style="bold")
    table.add_column("provider")
    for name in ("pushed", "delivered", "still waiting", "rate allowed", "mean rate", "busiest second"):
        table.add_column(name, justify="right")
    for provider, rate in RATES.items():
        table.add_row(
            provider,
            f"{moment.pushed[provider]:,}",
            f"{moment.accepted[provider]:,}",
            f"{_waiting(moment, provider):,}",
            f"{rate}/s",
            f"{moment.accepted[provider] / max(1.0, moment.seconds):.0f}/s",
            f"{moment.busiest[provider]}",
        )
    return table
