"""What came in, in bounded memory: the latest requests and counters over all of them."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from dataclasses import asdict, dataclass
from typing import Any

LATEST = 10_000
"""Entries and ids that are remembered."""

SECONDS = 60
"""Seconds of history of the rate."""

CUT = 2000
"""Characters of a body that are kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as it came in; `at` is in Unix seconds, `status` what it was answered."""

    at: float
    provider: str
    target: str
    event: str
    message_id: str
    body: str
    status: int


class Journal:
    """Counts by provider: requests, messages, accepted, refused, duplicates."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.entries: deque[Entry] = deque(maxlen=LATEST)
        self.counts: dict[str, Counter[str]] = {}
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._seconds: dict[str, deque[tuple[int, int]]] = {}

    def note(self, provider: str, status: int, messages: list[tuple[str, str, str, str]]) -> None:
        """One request that was answered with `status`; messages are (target, event, id, body)."""
        now = time.time()
        counts = self.counts.setdefault(provider, Counter())
        counts["requests"] += 1
        counts["messages"] += len(messages)
        accepted = 200 <= status < 300
        counts["accepted" if accepted else "refused"] += len(messages)
        for target, event, message_id, body in messages:
            self.entries.append(Entry(now, provider, target, event, message_id, body[:CUT], status))
            if accepted and message_id and self._seen(provider, message_id):
                counts["duplicates"] += 1
        if accepted:
            self._tick(provider, int(time.monotonic()), len(messages))

    def _seen(self, provider: str, message_id: str) -> bool:
        key = (provider, message_id)
        if key in self._ids:
            return True
        self._ids[key] = None
        if len(self._ids) > LATEST:
            self._ids.popitem(last=False)
        return False

    def _tick(self, provider: str, second: int, messages: int) -> None:
        seconds = self._seconds.setdefault(provider, deque(maxlen=SECONDS))
        if seconds and seconds[-1][0] == second:
            messages += seconds.pop()[1]
        seconds.append((second, messages))

    def accepted(self, provider: str) -> int:
        """Messages that were accepted."""
        return self.counts.get(provider, Counter())["accepted"]

    def history(self, provider: str) -> list[int]:
        """Accepted messages in each of the latest whole seconds, the oldest first."""
        by_second = dict(self._seconds.get(provider, ()))
        now = int(time.monotonic())
        return [by_second.get(second, 0) for second in range(now - SECONDS, now)]

    def stats(self) -> dict[str, dict[str, Any]]:
        """The counters of every provider, with the rate of the last whole second and its history."""
        names = ("requests", "messages", "accepted", "refused", "duplicates")
        document: dict[str, dict[str, Any]] = {}
        for provider, counts in self.counts.items():
            history = self.history(provider)
            document[provider] = {
                **{name: counts[name] for name in names},
                "rate_per_second": history[-1],
                "history": history,
            }
        return document

    def latest(self, provider: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest entries first."""
        found = (entry for entry in reversed(self.entries) if provider in (None, entry.provider))
        return [asdict(entry) for entry, _ in zip(found, range(limit), strict=False)]
