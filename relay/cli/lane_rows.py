"""A lane in `relay status`, as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from relay.cli.tables import status_table
from relay.settings.durations import rough_duration
from relay.store.overview import LaneStatus, Overview
from relay.store.states import State
from relay.text import printable

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


def lanes_table(overview: Overview, before: Overview | None) -> Table:
    """Return a row for each lane. With an earlier overview, rows include the present rate."""
    rates = ("rate", "now") if before else ("rate",)
    counts = ("waiting", "delayed", "flight", "delivered", "failed", "dead")
    table = status_table("Lanes", "provider", "state", numbers=(*rates, *counts))
    earlier = {lane.provider: lane for lane in before.lanes} if before else {}
    for lane in overview.lanes:
        table.add_row(
            Text(lane.provider),
            _state(lane),
            Text(lane.rate, style="yellow" if lane.override else ""),
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
    if not (lane.configured or lane.served):
        return Text("not in the file", style="bold red")
    text = lane.state
    if lane.hold:
        text += f" {rough_duration(lane.hold)}"
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
