"""Durations such as `10s` or `1h30m`. Pure, and without pydantic, because messages contain durations too."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from relay.settings.formatting import describe

NUMBER = r"[0-9]+(?:\.[0-9]+)?"
SPAN = rf"{NUMBER}(?:ms|s|m|h|d)"
DURATION_PATTERN = rf"^{NUMBER}$|^{SPAN}(?: ?{SPAN})*$"

SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}

LONGEST = 800
"""Maximum characters of a duration. Two floats without exponent fit."""

_DURATION = re.compile(DURATION_PATTERN)
_PART = re.compile(rf"({NUMBER})(ms|s|m|h|d)")


def parse_duration(value: object) -> float:
    """Return seconds, from a number or a text such as `10s`, `500ms`, `1h30m` or `2d`.

    Raises ValueError for anything else, such as negative, infinite and undefined numbers.
    """
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = as_float(value)
    elif isinstance(value, str) and len(value) <= LONGEST and _DURATION.match(value.strip()):
        spans = _PART.findall(value)
        exact = sum((Decimal(count) * SECONDS[unit] for count, unit in spans), Decimal(0))
        seconds = as_float(exact if spans else Decimal(value.strip()))
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(
            f"{describe(value)} is not a duration; write seconds or a text such as 10s, 500ms or 1h30m"
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads as the same float."""
    exact = Decimal(repr(float(seconds)))
    if exact == 0:
        return "0s"
    if exact >= 10**15:  # beyond the precision of a decimal division
        return f"{exact:f}s"
    if exact < 1:
        return f"{plain(exact * 1000)}ms"
    parts = []
    for unit in ("d", "h", "m"):
        whole, exact = divmod(exact, SECONDS[unit])
        if whole:
            parts.append(f"{whole:f}{unit}")
    if exact:
        parts.append(f"{plain(exact)}s")
    return "".join(parts)


def rough_duration(seconds: float) -> str:
    """A duration for people: in seconds below an hour, in minutes below a day, otherwise in hours."""
    for longer_than, unit in ((86400.0, 3600.0), (3600.0, 60.0)):
        if seconds >= longer_than:
            return format_duration(round(seconds / unit) * unit)
    return format_duration(round(seconds))


def as_float(number: int | float | Decimal) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def plain(number: Decimal) -> str:
    """Return a number without exponent and without a trailing `.0`."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
