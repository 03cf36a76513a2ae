"""The messages that came in: the latest ones, and counters over all of them. Memory is bounded."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from relay.sandbox.exchange import Received, readable, succeeds

LATEST = 10_000
"""Messages that are kept."""

IDS = 100_000
"""Ids that are kept to find duplicates."""

SECONDS = 60
"""Seconds of rate history."""

UNANSWERED = 0
"""The status of a request that received no complete answer."""

_COUNTERS = ("requests", "messages", "accepted", "refused", "unanswered", "duplicates")


class Entry(NamedTuple):
    """A message that came in. `at` is in Unix seconds, `monotonic` in seconds; `status` is that of the
    answer."""

    at: float
    monotonic: float
    provider: str
    target: str
    event: str
    message_id: str
    body: str
    status: int


class RequestLog:
    """Counts by provider: messages = accepted + refused + unanswered.

    A duplicate is a message whose id was accepted before. A retry after a refusal is not a duplicate.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._wall = clock, wall
        self.clear()

    def clear(self) -> None:
        """Delete all entries and counters."""
        self.entries: deque[Entry] = deque(maxlen=LATEST)
        self.counts: dict[str, Counter[str]] = {}
        self.statuses: dict[str, Counter[int]] = {}
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._seconds: dict[str, deque[tuple[int, int]]] = {}
        self._busiest: dict[str, int] = {}

    def add(self, provider: str, status: int, messages: Sequence[Received]) -> None:
        """Add a request that was answered with `status`."""
        at, now = self._wall(), self._clock()
        if provider not in self.counts:
            self.counts[provider], self.statuses[provider] = Counter(), Counter()
        counts, accepted = self.counts[provider], succeeds(status)
        counts["requests"] += 1
        self.statuses[provider][status] += 1
        if not messages:
            return
        counts["messages"] += len(messages)
        counts["accepted" if accepted else "refused" if status else "unanswered"] += len(messages)
        for message in messages:
            target, event, message_id, body = map(readable, message)
            self.entries.append(Entry(at, now, provider, target, event, message_id, body, status))
            if accepted and message.message_id and self._was_seen(provider, message.message_id):
                counts["duplicates"] += 1
        if accepted:
            self._tick(provider, int(now), len(messages))

    def _was_seen(self, provider: str, message_id: str) -> bool:
        key = (provider, message_id)
        if key in self._ids:
            return True
        self._ids[key] = None
        if len(self._ids) > IDS:
            self._ids.popitem(last=False)
        return False

    def _tick(self, provider: str, second: int, messages: int) -> None:
        # One more than the history: the current second is not over.
        seconds = self._seconds.setdefault(provider, deque(maxlen=SECONDS + 1))
        if seconds and seconds[-1][0] == second:
            messages += seconds.pop()[1]
        seconds.append((second, messages))
        self._busiest[provider] = max(messages, self.busiest(provider))

    def accepted(self, provider: str) -> int:
        """Return how many messages were accepted."""
        return self.counts[provider]["accepted"] if provider in self.counts else 0

    def history(self, provider: str) -> list[int]:
        """Return the accepted messages of each of the latest whole seconds, oldest first."""
        by_second = dict(self._seconds.get(provider, ()))
        now = int(self._clock())
        return [by_second.get(second, 0) for second in range(now - SECONDS, now)]

    def busiest(self, provider: str) -> int:
        """Return the most messages that were ever accepted in one second."""
        return self._busiest.get(provider, 0)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return every provider's counters, its rate in the last whole second and its history."""
        document: dict[str, dict[str, Any]] = {}
        for provider, counts in self.counts.items():
            history = self.history(provider)
            document[provider] = {
                **{name: counts[name] for name in _COUNTERS},
                "statuses": {str(status): count for status, count in sorted(self.statuses[provider].items())},
                "rate_per_second": history[-1],
                "history": history,
            }
        return document

    def latest(self, provider: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the latest messages, newest first, of one provider or of all."""
        found = (entry for entry in reversed(self.entries) if provider in (None, entry.provider))
        return [entry._asdict() for entry, _ in zip(found, range(limit), strict=False)]
