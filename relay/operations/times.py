"""Points in time as an operator types them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from relay.errors import UsageError
from relay.settings.durations import parse_duration
from relay.text import LATEST, quote


def parse_moment(option: str, text: str, now: float | None = None) -> float:
    """Unix seconds of an RFC 3339 time, of Unix seconds, or of a duration such as `2h` before `now`.

    A time without an offset is UTC. A number below 100,000,000 (the year 1973) is a duration in seconds.
    Raises UsageError for any other text.
    """
    try:
        seconds = parse_duration(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise UsageError(
                f"{option}: {quote(text)} is no time: write 2026-11-28T03:00:00Z, Unix seconds, "
                "or a duration such as 2h for two hours ago"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if seconds >= LATEST:
        raise UsageError(f"{option}: {quote(text)} is out of range")
    if seconds >= 100_000_000 and text.strip().replace(".", "", 1).isdecimal():
        return seconds
    return (time.time() if now is None else now) - seconds
