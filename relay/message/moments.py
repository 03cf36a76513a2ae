"""Times and spans as applications write them, in Unix seconds. Pure."""

from __future__ import annotations

import math
from datetime import datetime

from relay.errors import MessageError
from relay.message.fields import MAX_TIME, Moment, Span
from relay.settings.durations import parse_duration
from relay.text import quote


def unix_time(value: Moment, name: str) -> float:
    """Return Unix seconds; 0 if there is no value. Raises MessageError."""
    if value is None:
        return 0.0
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise MessageError(
                f"{name}: {quote(value)} is neither Unix seconds nor an RFC 3339 time"
            ) from None
        if moment.tzinfo is None:
            raise MessageError(f"{name}: {quote(value)} needs a time zone (Z or +02:00)")
        value = moment.timestamp()
    if not math.isfinite(value) or value < 0:
        raise MessageError(f"{name}: {value} is not a Unix time")
    if value >= MAX_TIME:
        raise MessageError(f"{name}: {value:.15g} is too large for Unix seconds; are these milliseconds?")
    return float(value)


def after(base: float, value: Span, name: str) -> float:
    """`base` plus a span (seconds or "10m"), or 0 for none."""
    if value is None:
        return 0.0
    try:
        span = parse_duration(value)
    except ValueError as error:
        raise MessageError(f"{name}: {error}") from None
    if base + span >= MAX_TIME:
        raise MessageError(f"{name}: {value} is too long")
    return base + span


def earliest(one: float, other: float) -> float:
    """Return the earlier of two times, of which 0 stands for "none"."""
    return min(one, other) if one and other else one or other
