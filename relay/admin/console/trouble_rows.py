"""The sentence and the troubles of a fleet as the overview shows them: with colours and links. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relay.admin.console.lane_view import tone_of
from relay.admin.console.tones import RANKS, Tone
from relay.operations.summary import Level, summary
from relay.operations.troubles import Trouble
from relay.store.findings import Finding
from relay.store.findings import Level as FindingLevel
from relay.store.overview import Overview
from relay.text import printable

_TONES: Final = {Level.TROUBLE: Tone.BAD, Level.NOTE: Tone.WARN, Level.FINE: Tone.GOOD}


@dataclass(frozen=True, slots=True)
class TroubleRow:
    """One row. `link` is a path of the console."""

    tone: Tone
    text: str
    detail: str = ""
    link: str = ""


def trouble_rows(troubles: Iterable[Trouble], servers: Iterable[Finding]) -> list[TroubleRow]:
    """Return all rows, the most serious first."""
    return sorted((*map(_row, troubles), *_servers(servers)), key=lambda row: RANKS[row.tone])


def sentence(overview: Overview) -> str:
    """Return the sentence of `relay status`, with a capital unless it begins with a provider's name."""
    text = f"{summary(overview)}."
    return text[0].upper() + text[1:] if text.startswith(("all ", "no ", "the ", "Redis ")) else text


def tone_of_all(rows: Sequence[TroubleRow]) -> Tone:
    """Return the tone of the most serious row."""
    tones = [row.tone for row in rows if row.tone is not Tone.IDLE]
    return min(tones, key=RANKS.__getitem__, default=Tone.GOOD)


def _row(trouble: Trouble) -> TroubleRow:
    tone, link = _TONES[trouble.level], ""
    match trouble.place:
        case "lane":
            assert trouble.lane is not None
            tone, link = tone_of(trouble.lane), f"/lanes/{trouble.lane.provider}"
        case "rate" | "groups":
            assert trouble.lane is not None
            tone = Tone.HELD if trouble.place == "rate" else tone
            link = f"/lanes/{trouble.lane.provider}"
        case "queues" | "workers":
            link = f"/{trouble.place}"
        case "redis":
            pass
    return TroubleRow(tone, trouble.text, trouble.detail, link)


def _servers(servers: Iterable[Finding]) -> Iterator[TroubleRow]:
    for finding in servers:
        if finding.level in (FindingLevel.FAILED, FindingLevel.WARNING):
            tone = Tone.BAD if finding.level is FindingLevel.FAILED else Tone.IDLE
            yield TroubleRow(tone, f"Redis: {finding.subject}", printable(finding.text))
