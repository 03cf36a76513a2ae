"""The timeline of a lane: its holds and pauses with their exact times, and the actions of operators. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relay.admin.console.charts import Band
from relay.admin.console.tones import STATE_TONES, Tone
from relay.settings.durations import rough_duration
from relay.store.audit import AuditEntry
from relay.store.holds import Hold
from relay.text import printable

MOST = 30
"""Events that a page lists."""

LONGEST = 300
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that began at `at`. `ended` is None if it is one moment, or has not ended."""

    at: float
    tone: Tone
    text: str
    detail: str = ""
    ended: float | None = None
    goes_on: bool = False


def events(
    holds: Iterable[Hold],
    present: Hold | None,
    actions: Iterable[AuditEntry],
    ends: Iterable[Event] = (),
) -> list[Event]:
    """Return the events, the newest first. `present` is the current hold."""
    found = [_held(hold) for hold in holds] + list(ends)
    if present is not None:
        tone = STATE_TONES.get(present.state, Tone.BAD)
        detail = printable(present.reason[:LONGEST])
        found.append(Event(present.since, tone, printable(present.state), detail, goes_on=True))
    found += [_acted(entry) for entry in actions]
    return sorted(found, key=lambda event: -event.at)[:MOST]


ORDERS: Final = {"rate": "rate", "rate-reset": "rate", "pause": "pause", "resume": "pause"}
"""The actions that begin or end something for a while."""


def ends(orders: Iterable[AuditEntry], start: float, now: float) -> Iterator[Event]:
    """Yield the rates, and the pauses of groups, that have ended at their own time since `start`.

    `orders` has the newest first. The end of a lane's pause is that of a hold.
    """
    replaced: dict[tuple[str, str], float] = {}
    for entry in orders:
        thing = (ORDERS[entry.action], entry.group)
        later = replaced.get(thing, now)
        if entry.until and start <= entry.until <= later and thing != ("pause", ""):
            text = f"the {thing[0]}{_of(entry.group)} has ended"
            yield Event(entry.until, Tone.IDLE, text, f"at the time that {printable(entry.who)} set")
        replaced[thing] = entry.at


def bands(found: Sequence[Event], start: float, now: float) -> Iterator[Band]:
    """Yield the events as parts of the time from `start` to `now`, both 0 to 1."""
    length = now - start
    for event in found:
        end = now if event.goes_on else event.ended if event.ended is not None else event.at
        if end >= start:
            yield Band(
                max(0.0, (event.at - start) / length),
                min(1.0, (end - start) / length),
                event.tone.value,
            )


def _held(hold: Hold) -> Event:
    lasted = rough_duration(hold.ended - hold.since) if hold.ended - hold.since >= 1 else "less than 1s"
    return Event(
        hold.since,
        STATE_TONES.get(hold.state, Tone.BAD),
        f"{printable(hold.state)} for {lasted}",
        printable(hold.reason[:LONGEST]),
        hold.ended,
    )


def _acted(entry: AuditEntry) -> Event:
    count = f", {entry.count:,} letters" if entry.count > 1 else ""
    why = f": {printable(entry.why[:LONGEST])}" if entry.why else ""
    return Event(
        entry.at,
        Tone.IDLE,
        f"{printable(entry.action)}{_of(entry.group)}{count}",
        f"{printable(entry.who)}{why}",
    )


def _of(group: str) -> str:
    return f" of {printable(group)}" if group else ""
