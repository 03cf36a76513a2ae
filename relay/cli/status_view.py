"""An overview of the fleet or of one provider, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from relay.cli.group_rows import group_tables
from relay.cli.lane_rows import lanes_table
from relay.cli.rows import Cell, Column, Paragraph, Row, Rows, count, short_duration
from relay.operations.summary import Level, in_trouble, queue_level, summary
from relay.settings.durations import rough_duration
from relay.store.fleet import Member
from relay.store.fleet_findings import findings, has_other_settings, lane_findings
from relay.store.histogram import Histogram
from relay.store.neighbours import ForeignWorker
from relay.store.overview import Overview, QueueStatus
from relay.store.vitals import Duty
from relay.text import one_line, printable, rfc3339

OUTBOX_BACKLOG = 1000
"""The tables mention an outbox with more entries than this. Normally, workers forward entries immediately."""

MOST_HOLDS = 10
"""Holds of the last hour that are listed."""

MOST_REASONS = 20
"""Reasons of errors in a table. The JSON document has all."""

_QUEUES: Final = (Column("waiting", "wait"), Column("oldest", "age"), Column("taken"), Column("dead"))
_WORKERS: Final = (
    Column("pid"),
    Column("version", is_text=True),
    Column("settings", is_text=True),
    Column("age"),
    Column("heartbeat", is_text=True),
)


def fleet_view(overview: Overview, settings: str, others: Sequence[ForeignWorker] = ()) -> RenderableType:
    """Return all tables, after a sentence about the fleet. `settings` is the digest of the reader's file."""
    parts: list[RenderableType] = [
        *(headline(overview), "", lanes_table(overview.lanes), ""),
        *(queues_table(overview.queues), "", workers_table(overview, settings)),
        *(Paragraph(printable(line), "yellow") for line in findings(overview, settings, others)),
    ]
    return Group(*parts, *_notes(overview))


def provider_view(overview: Overview) -> RenderableType:
    """Return the tables of one lane."""
    parts: list[RenderableType] = [headline(overview), "", lanes_table(overview.lanes)]
    for lane in overview.lanes:
        for table in group_tables(lane.groups):
            parts += ["", table]
    parts += [*_backlog(overview), "", *_last_hour(overview)]
    parts += [Paragraph(printable(line), "yellow") for line in lane_findings(overview.lanes)]
    return Group(*parts, *_notes(overview))


def headline(overview: Overview) -> Paragraph:
    """Return the sentence about the fleet."""
    return Paragraph(summary(overview), "bold red" if in_trouble(overview) else "bold green")


def queues_table(queues: Sequence[QueueStatus]) -> Rows:
    """Return a row for each queue."""
    ordered = sorted(queues, key=lambda queue: -queue_level(queue))
    return Rows("Queues", "queue", _QUEUES, [_queue(queue) for queue in ordered])


def _queue(queue: QueueStatus) -> Row:
    note = queue.error
    if not note and not queue.served and queue.waiting:
        note = "no worker reads it"
    if not queue.configured and not queue.served:
        note = f"{note}, not in the file" if note else "not in the file"
    age = queue.oldest_seconds
    cells = (
        count(queue.waiting),
        Cell() if age is None else Cell(rough_duration(age), short_duration(age)),
        count(queue.taken),
        count(queue.rejected),
    )
    style = "bold red" if queue_level(queue) is Level.TROUBLE else "yellow"
    return Row(printable(queue.name), cells, one_line(note), style)


def workers_table(overview: Overview, settings: str) -> Rows:
    """Return a row for each worker, including those that died within the last minutes."""
    alive = {member.info.worker for member in overview.alive}
    rows = [_worker(member, overview, settings, alive) for member in (*overview.workers, *overview.lost)]
    return Rows("Workers", "host", _WORKERS, rows)


def _worker(member: Member, overview: Overview, settings: str, alive: set[str]) -> Row:
    info, is_alive = member.info, member.info.worker in alive
    beat = Cell(f"{member.silent:.0f}s ago", style="" if is_alive else "red")
    if member in overview.lost:
        beat = Cell(f"died {member.silent:.0f}s ago", style="red")
    differs = has_other_settings(info, settings)
    age = overview.at - info.started
    cells = (
        Cell(str(info.pid)),
        Cell(printable(info.version)),
        Cell("other file" if differs else info.settings and "this file", style="yellow" if differs else ""),
        Cell(rough_duration(max(0.0, age)), short_duration(max(0.0, age))),
        beat,
    )
    takes = member.duty is Duty.SERVING or not is_alive
    return Row(printable(info.host), cells, "" if takes else member.duty.value)


def _backlog(overview: Overview) -> Iterator[RenderableType]:
    detail = overview.detail
    waiting = [f"{number:,} {level}" for level, number in detail.priorities.items() if number]
    if detail.blocked:
        waiting.append(f"{detail.blocked:,} behind their ordering key")
    if len(waiting) > 1 or detail.blocked:
        yield Text(f"Waiting: {', '.join(waiting)}")


def _last_hour(overview: Overview) -> Iterator[RenderableType]:
    hour = overview.hour
    latencies = [
        f"{name}: {text}"
        for name, histogram in (("push to end", hour.delivery), ("request", hour.request))
        if (text := _percentiles(histogram))
    ]
    if latencies:
        yield Text("Last hour", style="bold")
        yield from (Text(line) for line in latencies)
    if overview.detail.holds:
        yield Text("Holds of the last hour", style="bold")
    for hold in overview.detail.holds[:MOST_HOLDS]:
        lasted = rough_duration(hold.ended - hold.since)
        line = f"{rfc3339(hold.since)}  {hold.state} for {lasted}  {hold.reason}"
        yield Paragraph(one_line(line))
    if hour.reasons:
        shown = list(hour.reasons.items())[:MOST_REASONS]
        yield Text(f"Errors of the last hour ({len(shown)} of {len(hour.reasons):,} reasons)", style="bold")
        width = max(len(f"{number:,}") for _, number in shown)
        for reason, number in shown:
            yield Paragraph(f"{number:>{width},}  {one_line(reason)}")


def _percentiles(histogram: Histogram) -> str:
    """Return for example `p50 12ms, p95 80ms, p99 1.2s`."""
    found = [(share, histogram.percentile(share / 100)) for share in (50, 95, 99)]
    return ", ".join(f"p{share} {_seconds(value)}" for share, value in found if value is not None)


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 60 else rough_duration(seconds)


def _notes(overview: Overview) -> Iterator[Paragraph]:
    """Yield a line for each problem that needs an operator."""
    for error in overview.errors:
        yield Paragraph(printable(f"Redis refused {error}"), "red")
    for lane in overview.lanes:
        if lane.outbox > OUTBOX_BACKLOG:
            yield Paragraph(
                f"{printable(lane.provider)}: {lane.outbox:,} receipts or feedback entries wait; see the "
                "workers' log.",
                "bold red",
            )
    if not overview.alive:
        yield Paragraph("No worker is alive: start one with `relay run`.", "bold red")
