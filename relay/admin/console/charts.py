"""Charts as SVG, without script and style, so that the strictest policy allows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 120, 24
"""The box of a sparkline in pixels."""


def sparkline(sent: Sequence[float], failed: Sequence[float], label: str) -> Markup:
    """Return bars of sent messages, with the failed attempts in the colour of a fault in front of them."""
    from markupsafe import Markup, escape

    count = max(len(sent), 1)
    step = WIDTH / count
    top = max(max(sent, default=0), max(failed, default=0))
    parts = [
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(label)}" preserveAspectRatio="none"><title>{escape(label)}</title>'
        f'<path class="spark-base" d="M0 {HEIGHT - 0.5}H{WIDTH}"/>'
    ]
    if top:
        parts.append(f'<path class="spark-sent" d="{_bars(sent, step, top)}"/>')
        if any(failed):
            parts.append(f'<path class="spark-failed" d="{_bars(failed, step, top)}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers, and escaped text


def _bars(values: Sequence[float], step: float, top: float) -> str:
    width = max(1.0, step - 0.5)
    bars = []
    for place, value in enumerate(values):
        if value > 0:
            height = max(1.5, value / top * (HEIGHT - 2))
            bars.append(f"M{place * step:.1f} {HEIGHT}v-{height:.1f}h{width:.1f}v{height:.1f}z")
    return "".join(bars)
