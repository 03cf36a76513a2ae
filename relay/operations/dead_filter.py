"""Reads the filter of dead letters as an operator types it, or as the body of a request has it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from relay.errors import UsageError
from relay.operations.times import parse_moment
from relay.store.dead_filter import DeadFilter
from relay.text import quote

OPTIONS = ("id", "reason", "text", "status", "group", "queue", "since", "until")
"""The options of every command on dead letters."""

LONGEST = 1000
"""Characters of an option."""

_STATUS = re.compile(r"([1-9])(?:xx|([0-9]{2}))", re.IGNORECASE)


def parse_filter(options: Mapping[str, str | None], now: float | None = None) -> DeadFilter:
    """Return the filter of these options; absent and None set no condition. Raises UsageError.

    `now` is in Unix seconds, for durations such as `2h` ago.
    """
    for name, text in options.items():
        if name not in OPTIONS:
            raise UsageError(f"unknown option {quote(name)}: allowed are {', '.join(OPTIONS)}")
        if text is not None and not 0 < len(text) <= LONGEST:
            raise UsageError(f"--{name}: write 1 to {LONGEST} characters, this has {len(text)}")
    texts = {name: options.get(name) or "" for name in ("id", "reason", "text", "group", "queue")}
    for name, text in texts.items():
        if not _is_unicode(text):
            raise UsageError(f"--{name}: {quote(text)} is not valid UTF-8")
    since, until = (_moment(name, options.get(name), now) for name in ("since", "until"))
    if 0 < until < since:
        raise UsageError("--until is before --since: no letter can match")
    return DeadFilter(**texts, statuses=_statuses(options.get("status")), since=since, until=until)


def _moment(name: str, text: str | None, now: float | None) -> float:
    """Return Unix seconds; 0 without a limit."""
    return 0.0 if text is None else max(0.001, parse_moment(f"--{name}", text, now))


def _statuses(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _STATUS.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--status: {quote(text)} is no status: write 413, or 5xx for 500 to 599")
    first, rest = found.groups()
    return (int(first) * 100, int(first) * 100 + 99) if rest is None else (int(text), int(text))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
