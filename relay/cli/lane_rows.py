"""Lanes in `relay status`, trouble first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from relay.cli.rows import Cell, Column, Row, Rows, count, short_count, short_duration, short_rate
from relay.operations.summary import is_unserved, trouble_first
from relay.settings.durations import rough_duration
from relay.settings.values import parse_rate
from relay.store.overview import LaneStatus
from relay.store.states import State
from relay.text import one_line, printable

LONGEST_STATE = 12
"""Characters of a state. Newer versions may have other states."""

COLOURS: Final[Mapping[str, str]] = {
    State.RUNNING: "green",
    State.PAUSED: "yellow",
    State.THROTTLED: "yellow",
    State.OPEN: "red",
    State.TRIAL: "yellow",
    State.UNAUTHORISED: "bold red",
    State.UNREGISTERED: "bold red",
    State.FAULTY: "bold red",
}

COLUMNS: Final = (
    Column("state", is_text=True),
    Column("waiting", "wait"),
    Column("oldest", "age"),
    Column("delayed", "later", is_optional=True),
    Column("in flight", "out", is_optional=True),
    Column("delivered", needs_width=True),
    Column("failed", needs_width=True),
    Column("dropped", is_optional=True),
    Column("dead"),
    Column("gone in", "gone"),
    Column("sent/s of rate", "sent of rate"),
    Column("errors/s", "err/s", is_optional=True),
    Column("throttled", "429", is_optional=True),
)


def lanes_table(lanes: Sequence[LaneStatus]) -> Rows:
    """Return a row for each lane, with its reason if it has one."""
    return Rows("Lanes", "lane", COLUMNS, [lane_row(lane) for lane in trouble_first(lanes)])


def lane_row(lane: LaneStatus) -> Row:
    """Return the row of a lane."""
    state = "unreadable" if lane.error else "not served" if is_unserved(lane) else lane.state
    style = COLOURS.get(state, "bold red")
    share = lane.recent.throttled_share
    cells = (
        Cell(printable(state[:LONGEST_STATE]), style=style),
        count(lane.waiting),
        _age(lane.oldest_seconds),
        count(lane.delayed),
        count(lane.in_flight),
        count(lane.totals.get("delivered", 0)),
        count(lane.totals.get("failed", 0)),
        count(lane.totals.get("dropped", 0)),
        Cell(f"{lane.dead:,}", short_count(lane.dead), "red") if lane.dead else Cell(),
        _gone_in(lane),
        _rate(lane),
        Cell(short_rate(lane.recent.errors_per_second), style="red")
        if lane.recent.errors_per_second
        else Cell(),
        Cell(f"{share:.0%}", style="yellow") if share else Cell(),
    )
    return Row(printable(lane.provider), cells, note_of(lane), style if lane.why or lane.error else "yellow")


def note_of(lane: LaneStatus) -> str:
    """Return the reason for the state of a lane, and other notable facts."""
    notes = []
    if lane.error:
        notes.append(one_line(lane.error))
    elif lane.why or lane.hold:
        hold = f" {rough_duration(lane.hold)}" if lane.hold else ""
        why = f": {one_line(lane.why)}" if lane.why else ""
        notes.append(f"{printable(lane.state)}{hold}{why}")
    if is_unserved(lane):
        notes.append("no worker serves it" if lane.configured else "no worker serves it, not in the file")
    elif not (lane.configured or lane.served):
        notes.append("not in the file")
    if lane.suspects:
        notes.append(f"{lane.suspects:,} {'suspect' if lane.suspects == 1 else 'suspects'}")
    return "; ".join(notes)


def _age(seconds: float | None) -> Cell:
    return Cell() if seconds is None else Cell(rough_duration(seconds), short_duration(seconds))


def _gone_in(lane: LaneStatus) -> Cell:
    if not (lane.waiting or lane.in_flight):
        return Cell()
    seconds = lane.empty_in_seconds
    if seconds is None:
        return Cell("never", style="yellow")
    return Cell(rough_duration(seconds), short_duration(seconds))


def _rate(lane: LaneStatus) -> Cell:
    sent = short_rate(lane.recent.delivered_per_second) if lane.recent.delivered_per_second else "0"
    rates = lane.settings.rate if lane.settings is not None else ""
    if lane.override is not None:
        rates = lane.override.text
    return Cell(
        f"{sent} of {rates}" if rates else sent,
        f"{sent} of {_lowest(rates)}" if rates else sent,
        "yellow" if lane.override is not None else "",
    )


def _lowest(rates: str) -> str:
    """Return the rate that allows the fewest messages."""
    try:
        return min(rates.split(", "), key=lambda rate: parse_rate(rate).per_second)
    except ValueError:
        return printable(rates[:LONGEST_STATE])
