"""The figures as Markdown tables, which are readable in a terminal too."""

from __future__ import annotations

from typing import Any

BACKLOG = (
    ("messages/s", "messages_per_second", "{:,.0f}"),
    ("relay is", "relay_is", "{:.2f} ×"),
    ("CPU s / 100,000", "cpu", "{:.1f}"),
    ("Redis CPU s / 100,000", "redis_cpu", "{:.1f}"),
    ("peak MiB", "peak", "{:,.0f}"),
)
STEADY = (
    ("p50 ms", "p50_ms", "{:,.1f}"),
    ("p99 ms", "p99_ms", "{:,.1f}"),
    ("p99.9 ms", "p999_ms", "{:,.1f}"),
    ("missing after 5 s", "lost", "{:,}"),
    ("CPU", "cpu", "{:.0%}"),
    ("Redis CPU", "redis_cpu", "{:.0%}"),
    ("CPU at rest", "idle_cpu", "{:.1%}"),
    ("Redis CPU at rest", "idle_redis_cpu", "{:.1%}"),
)
GROWTH = (
    ("messages/s", "messages_per_second", "{:,.0f}"),
    ("relative to the first", "ratio", "{:.2f}"),
    ("CPU s / 100,000", "cpu", "{:.1f}"),
    ("Redis CPU s / 100,000", "redis_cpu", "{:.1f}"),
    ("peak MiB", "peak", "{:,.0f}"),
)

Columns = tuple[tuple[str, str, str], ...]


def table(corner: str, columns: Columns, rows: dict[str, dict[str, Any]]) -> str:
    """Return a table with one row for each entry. None becomes an empty cell."""
    lines = [
        "| " + " | ".join([corner, *(title for title, _, _ in columns)]) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, figures in rows.items():
        cells = ["" if figures[key] is None else form.format(figures[key]) for _, key, form in columns]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def suite(results: dict[str, Any]) -> str:
    parts = []
    for workload, systems in results["backlog"].items():
        parts.append(f"A backlog, {workload}:\n\n" + table("", BACKLOG, systems))
    for workload, systems in results["steady"].items():
        parts.append(f"At a steady rate, {workload}:\n\n" + table("", STEADY, systems))
    parts += [f"{each['work']}: {each['system']}: {each['why']}" for each in results["failed"]]
    return "\n\n".join(parts)


def growth(results: dict[str, Any]) -> str:
    return "\n\n".join(table(name, GROWTH, cases) for name, cases in results["growth"].items())
