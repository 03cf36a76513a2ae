"""Bar charts as SVG: one colour for relay, one for all others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, LABEL, ROW, HEAD = 760, 170, 26, 40
OURS, OTHERS, INK = "#c2410c", "#64748b", "#1e293b"
Bar = tuple[str, float, str]
"""A name, its value, and the value as text."""


def bars(title: str, rows: list[Bar], ours: str = "relay") -> str:
    """Draw horizontal bars from zero, on white, so that they are readable on a dark page too."""
    height, most = HEAD + ROW * len(rows) + 12, max((value for _, value, _ in rows), default=1) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="{INK}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="25" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, value, text) in enumerate(rows):
        top, long = HEAD + ROW * number, max(1.0, value / most * (WIDTH - LABEL - 110))
        colour = OURS if name == ours else OTHERS
        parts += [
            f'<text x="{LABEL - 8}" y="{top + 17}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LABEL}" y="{top + 3}" width="{long:.1f}" height="{ROW - 7}" fill="{colour}"/>',
            f'<text x="{LABEL + long + 6:.1f}" y="{top + 17}">{escape(text)}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def write(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write the charts of a run."""
    charts = {**_suite(results), **_growth(results)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in charts.items():
        (folder / f"{name}.svg").write_text(chart)
    return [folder / f"{name}.svg" for name in charts]


def _suite(results: dict[str, Any]) -> dict[str, str]:
    charts = {}
    webhooks = results.get("backlog", {}).get("webhook", {})
    if webhooks:
        rate = _rows(webhooks, "messages_per_second", "{:,.0f}")
        charts["bench-rate"] = bars(
            "Webhooks per second from a backlog, one process (higher is better)", rate
        )
        cpu = [
            (name, each["cpu"] + each["redis_cpu"], f"{each['cpu']:.1f} + {each['redis_cpu']:.1f}")
            for name, each in webhooks.items()
        ]
        charts["bench-cpu"] = bars(
            "CPU seconds for 100,000 webhooks, worker + Redis (lower is better)", _sorted(cpu)
        )
    steady = results.get("steady", {}).get("webhook", {})
    if steady:
        # Logarithmic, from 0.1 ms on: otherwise a slow system would make all other bars invisible.
        late = [
            (name, math.log10(max(1.0, each["p50_ms"] * 10)), f"{each['p50_ms']:,.1f} ms")
            for name, each in steady.items()
        ]
        title = "RPUSH to receipt at a steady rate, median, logarithmic (lower is better)"
        charts["bench-latency"] = bars(title, _sorted(late))
    return charts


def _growth(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        (f"{name}: {case}", each["messages_per_second"], f"{each['messages_per_second']:,.0f}/s")
        for name, cases in results.get("growth", {}).items()
        for case, each in cases.items()
    ]
    return {"bench-growth": bars("relay's webhooks per second with growing numbers", rows)} if rows else {}


def _rows(systems: dict[str, dict[str, Any]], key: str, form: str) -> list[Bar]:
    """Return the rows, the largest first."""
    return _sorted([(name, each[key], form.format(each[key])) for name, each in systems.items()])[::-1]


def _sorted(rows: list[Bar]) -> list[Bar]:
    return sorted(rows, key=lambda row: row[1])
