"""Charts as SVG, without script and style, so that the strictest policy allows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 120, 24
"""The box of a sparkline in pixels."""

CHART_WIDTH, CHART_HEIGHT = 960, 160
"""The box of a chart."""

TIMELINE_HEIGHT = 12
"""The height of a timeline, which is as wide as a chart."""


def sparkline(sent: Sequence[float], failed: Sequence[float], label: str) -> Markup:
    """Return bars of sent messages, with the failed attempts in the colour of a fault in front of them."""
    from markupsafe import Markup, escape

    count = max(len(sent), len(failed), 1)
    step = WIDTH / count
    top = max(max(sent, default=0), max(failed, default=0))
    parts = [
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'preserveAspectRatio="none"><title>{escape(label)}</title>'
        f'<path class="spark-base" d="M0 {HEIGHT - 0.5}H{WIDTH}"/>'
    ]
    if top:
        if any(sent):
            parts.append(f'<path class="spark-sent" d="{_bars(sent, step, top)}"/>')
        if any(failed):
            parts.append(f'<path class="spark-failed" d="{_bars(failed, step, top)}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and escaped text


def _bars(values: Sequence[float], step: float, top: float) -> str:
    """Return the outline of bars without gaps, which equal neighbours share. A page may have hundreds of
    sparklines, and a browser draws one outline several times as fast as sixty bars."""
    heights = [round(max(1.5, value / top * (HEIGHT - 2)) * 2) / 2 if value > 0 else 0.0 for value in values]
    parts, place = [f"M0 {HEIGHT}"], 0
    for height, equal in groupby(heights):
        length = len(list(equal))
        place += length
        parts.append(f"V{HEIGHT - height:g}H{place * step:g}")
    return "".join((*parts, f"V{HEIGHT}z"))


def stacked(series: Sequence[tuple[str, Sequence[float]]], label: str) -> Markup:
    """Return stacked bars of several series, by the name of their colour: the first is at the bottom."""
    from markupsafe import Markup, escape

    count = max((len(values) for _, values in series), default=0) or 1
    step = CHART_WIDTH / count
    sums = [sum(column) for column in zip(*(values for _, values in series), strict=True)]
    top = max(sums, default=0) or 1
    below = [0.0] * count
    parts = [_open_chart(str(escape(label)))]
    for name, values in series:
        bars = []
        for place, value in enumerate(values):
            if value > 0:
                height = max(1.5, value / top * (CHART_HEIGHT - 4))
                bottom = CHART_HEIGHT - below[place]
                bars.append(
                    f"M{place * step:.1f} {bottom:.1f}v-{height:.1f}h{max(1, step - 2):.1f}v{height:.1f}z"
                )
                below[place] += height
        parts.append(f'<path class="series-{name}" d="{"".join(bars)}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and escaped text


def lines(series: Sequence[tuple[str, Sequence[float | None]]], label: str) -> Markup:
    """Return several lines over the same time, by the name of their look. None: nothing happened."""
    from markupsafe import Markup, escape

    count = max((len(values) for _, values in series), default=0) or 1
    step = CHART_WIDTH / count
    top = max((value for _, values in series for value in values if value is not None), default=0) or 1
    parts = [_open_chart(str(escape(label)))]
    for name, values in series:
        path, drawing = [], False
        for place, value in enumerate(values):
            if value is None:
                drawing = False
                continue
            height = CHART_HEIGHT - value / top * (CHART_HEIGHT - 8)
            # A flat piece for each step, so that a single one can be seen.
            path.append(f"{'L' if drawing else 'M'}{place * step:.1f} {height:.1f}h{step:.1f}")
            drawing = True
        parts.append(f'<path class="line-{name}" d="{"".join(path)}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and escaped text


@dataclass(frozen=True, slots=True)
class Band:
    """A part of a time, from 0 to 1, in the colour of a tone."""

    start: float
    end: float
    tone: str


def timeline(bands: Iterable[Band], label: str) -> Markup:
    """Return a strip with the parts of a time. One that lasted for a moment is a thin line."""
    from markupsafe import Markup, escape

    width, height = CHART_WIDTH, TIMELINE_HEIGHT
    parts = [
        f'<svg class="timeline" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="none"><path class="timeline-base" d="M0 0h{width}v{height}h-{width}z"/>'
    ]
    # Actions first, and then longer bands before shorter ones, so that no hold is hidden.
    for band in sorted(bands, key=lambda band: (band.tone != "idle", band.start - band.end)):
        length = max(3.0, (band.end - band.start) * width)
        left = min(band.start * width, width - length)
        parts.append(
            f'<path class="band-{escape(band.tone)}" d="M{left:.1f} 0h{length:.1f}v{height}h-{length:.1f}z"/>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and escaped text


def _open_chart(label: str) -> str:
    return (
        f'<svg class="chart-large" viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img" '
        f'aria-label="{label}" preserveAspectRatio="none">'
        f'<path class="spark-base" d="M0 {CHART_HEIGHT - 0.5}H{CHART_WIDTH}"/>'
    )
