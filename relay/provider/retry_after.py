"""Retry-After (RFC 9110, section 10.2.3): whole seconds, or an HTTP date."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST = 3600.0
"""Longest wait in seconds that a provider can request."""

_SECONDS = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait in seconds, counted from `now` (Unix seconds).

    None if the header is missing or invalid. `headers` has lower-case names. Decimals, which some servers
    send against the RFC, are rounded up.
    """
    value = headers.get("retry-after")
    if value is None:
        return None
    if found := _SECONDS.fullmatch(value):
        return min(LONGEST, float(math.ceil(float(found[1]))))
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # the oldest of the three date forms has no zone: it is GMT
            date = date.replace(tzinfo=UTC)
        return min(LONGEST, max(0.0, date.timestamp() - now))
    except (ValueError, OverflowError, TypeError):
        return None
