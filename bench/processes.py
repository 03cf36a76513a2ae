"""The resources of a process and its descendants, from Linux's /proc."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass(frozen=True, slots=True)
class Usage:
    cpu: float
    """Seconds, user and system, of all processes and of their children that have ended."""
    peak: float
    """MiB: the sum of the peaks of all processes."""


def usage(pid: int) -> Usage:
    """Return the usage of a process and its descendants. Raises FileNotFoundError or ProcessLookupError if it
    has ended."""
    cpu, peak = _own(pid)
    for child in _children(pid):
        try:
            below = usage(child)
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu, peak = cpu + below.cpu, peak + below.peak
    return Usage(cpu, peak)


def _own(pid: int) -> tuple[float, float]:
    folder = Path(f"/proc/{pid}")
    # The name in parentheses may hold anything; the fields behind it are numbers (proc(5)).
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    peak = _PEAK.search((folder / "status").read_text())
    return sum(map(int, fields[11:15])) / _TICKS, int(peak[1]) / 1024 if peak else 0.0


def descendants(pid: int) -> list[int]:
    """Return the ids of all descendants of a process."""
    return [found for child in _children(pid) for found in (child, *descendants(child))]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
