"""Templates, and the words for numbers, durations and times on a page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from relay.admin.console.charts import sparkline
from relay.admin.console.lane_view import LaneView
from relay.admin.console.tones import Tone
from relay.settings.durations import rough_duration
from relay.text import hide_signing_secrets, printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HERE = Path(__file__).parent
STATIC = HERE / "static"

LONGEST_TEXT = 2000
"""Characters of foreign text in one place of a page."""


@cache
def environment() -> Environment:
    """Return the environment of all templates. Only a process that serves pages loads jinja2."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters |= {
        "number": number,
        "short": short,
        "duration": duration,
        "time": clock_time,
        "moment": moment,
        "stamp": stamp,
        "past": past,
        "answer": answer,
        "trend": trend,
        "share": share,
        "bytes": size,
        "per_second": per_second,
        "shown": shown,
        "segment": segment,
        "plural": plural,
        "sparkline": lane_sparkline,
        "environment_kind": environment_kind,
        "outcome_tone": outcome_tone,
    }
    found.globals["static"] = static_url
    return found


def compile_templates() -> None:
    """Compile all templates, which takes longer than most pages do."""
    templates = environment()
    for name in templates.list_templates():
        templates.get_template(name)


class Page:
    """A page, and the HTML of its live blocks."""

    def __init__(self, template: str, values: Mapping[str, Any]) -> None:
        self.blocks: dict[str, str] = {}
        self.text = environment().get_template(template).render(values, live=self._live)

    def _live(self, name: str, caller: Callable[[], Markup]) -> Markup:
        """Return a block of a page: `{% call live("lanes") %}…{% endcall %}`."""
        from markupsafe import Markup

        html = caller()
        self.blocks[name] = str(html)
        return Markup('<div data-block="{}">{}</div>').format(name, html)


@cache
def static_url(name: str) -> str:
    """Return the path of a static file. It changes with the content, so that browsers may keep the file."""
    digest = hashlib.blake2b((STATIC / name).read_bytes(), digest_size=5).hexdigest()
    return f"/static/{digest}/{name}"


def number(value: float | None) -> str:
    """Return a number with separators; an en dash if it is unknown."""
    return "–" if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """Return a rate with three digits: `0.4`, `12`, `1.2k`."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.1f}{unit}" if scaled < 100 else f"{scaled:.0f}{unit}"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def per_second(value: float | None) -> str:
    """Return a rate with its unit: `12/s`; an en dash if it is unknown."""
    return "–" if value is None else f"{short(value)}/s"


def duration(seconds: float | None) -> str:
    """Return a duration for people: `4m`, `1h12m`; an en dash if it is unknown."""
    if seconds is None:
        return "–"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds >= 0.001 else "<1ms"
    return rough_duration(seconds)


def clock_time(seconds: float | None) -> str:
    """Return a time in RFC 3339, in UTC; an en dash if it is unknown."""
    if not seconds:
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(seconds: float | None) -> str:
    """Return a time without its date: `14:03:27`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S") if seconds else "–"


def stamp(seconds: float | None, now: float) -> str:
    """Return a time without the parts that it shares with now: `14:03:27` today, otherwise `11-27 14:03`."""
    if not seconds:
        return "–"
    at, today = datetime.fromtimestamp(seconds, UTC), datetime.fromtimestamp(now, UTC)
    if at.date() == today.date():
        return at.strftime("%H:%M:%S")
    return at.strftime("%m-%d %H:%M" if at.year == today.year else "%Y-%m-%d")


def past(seconds: float) -> str:
    """Return how long ago something was: `4m ago`."""
    return "just now" if seconds < 1 else f"{rough_duration(seconds)} ago"


def answer(status: int, reason: str) -> str:
    """Return a status and a reason, which may begin with the status."""
    return reason if not status or reason.startswith(str(status)) else f"{status} {reason}".strip()


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    if value is None:
        return "–"
    return f"{value:.0%}" if value >= 0.1 or not value else f"{value:.1%}"


def size(value: float | None) -> str:
    """Return a number of bytes for people: `812 B`, `64 MiB`; an en dash if it is unknown."""
    if value is None:
        return "–"
    units = ["B", "KiB", "MiB", "GiB"]
    while value >= 1000 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.0f} {units[0]}" if value >= 10 or units[0] == "B" else f"{value:.1f} {units[0]}"


def shown(text: object, longest: int = LONGEST_TEXT) -> str:
    """Return foreign text on one line, without characters that change the page, and without secrets."""
    line = printable(hide_signing_secrets(str(text)[: longest + 1]))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def segment(text: object) -> str:
    """Return text as one segment of a URL's path."""
    return quote(str(text), safe="", errors="surrogateescape")


def plural(count: int, noun: str, many: str = "") -> str:
    """Return `1 lane` or `3 lanes`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def outcome_tone(outcome: str) -> Tone:
    """Return how an outcome of the journal is to be taken."""
    if outcome == "delivered":
        return Tone.GOOD
    if outcome in ("rejected", "dead", "unauthorised"):
        return Tone.BAD
    return Tone.WARN if outcome in ("retry", "throttled", "unregistered") else Tone.IDLE


def environment_kind(name: str) -> str:
    """Return the kind of an environment, which has a colour."""
    word = name.lower()
    if word.startswith(("prod", "live")):
        return "production"
    return "staging" if word.startswith(("stag", "pre", "test", "uat", "qa")) else "other"


def trend(counts: Sequence[int]) -> Markup:
    """Return the dead letters of the last day."""
    return sparkline((), counts, f"{sum(counts):,} in the last 24 hours")


def lane_sparkline(view: LaneView) -> Markup:
    """Return the last hour of a lane."""
    label = f"{sum(view.hour.sent):,.0f} sent, {sum(view.hour.failed):,.0f} failed in the last hour"
    return sparkline(view.hour.sent, view.hour.failed, label)
