"""What came in, in bounded memory: the latest messages, and counters over all of them."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from relay.sandbox.exchange import Received, readable, succeeds

LATEST = 10_000
"""Messages that are remembered."""

IDS = 100_000
"""Ids among which duplicates are found."""

SECONDS = 60
"""Seconds of history of the rate."""

UNANSWERED = 0
"""The status of a request that got no complete answer."""

_COUNTERS = ("requests", "messages", "accepted", "refused", "unanswered", "duplicates")


class Entry(NamedTuple):
    """One message as it came in: `at` in Unix seconds, `monotonic` in seconds, `status` as answered."""

    at: float
    monotonic: float
    provider: str
    target: str
    event: str
    message_id: str
    body: str
    status: int


class Journal:
    """Counts by provider; messages = accepted + refused + unanswered.

    A duplicate is a message that was accepted before under the same id: a second try after a refusal
    is none.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._wall = clock, wall
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.entries: deque[Entry] = deque(maxlen=LATEST)
        self.counts: dict[str, Counter[str]] = {}
        self.statuses: dict[str, Counter[int]] = {}
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._seconds: dict[str, deque[tuple[int, int]]] = {}
        self._busiest: dict[str, int] = {}

    def note(self, provider: str, status: int, messages: Sequence[Received]) -> None:
        """One request that was answered with `status`."""
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
        # The second that has only begun stands beside those of the history.
        seconds = self._seconds.setdefault(provider, deque(maxlen=SECONDS + 1))
        if seconds and seconds[-1][0] == second:
            messages += seconds.pop()[1]
        seconds.append((second, messages))
        self._busiest[provider] = max(messages, self.busiest(provider))

    def accepted(self, provider: str) -> int:
        """Messages that were accepted."""
        return self.counts[provider]["accepted"] if provider in self.counts else 0

    def history(self, provider: str) -> list[int]:
        """Accepted messages in each of the latest whole seconds, the oldest first."""
        by_second = dict(self._seconds.get(provider, ()))
        now = int(self._clock())
        return [by_second.get(second, 0) for second in range(now - SECONDS, now)]

    def busiest(self, provider: str) -> int:
        """The most messages that were accepted in one second, of all that ever were."""
        return self._busiest.get(provider, 0)

    def stats(self) -> dict[str, dict[str, Any]]:
        """The counters of every provider, with the rate of the last whole second and its history."""
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
        """The newest messages first; of one provider, or of all."""
        found = (entry for entry in reversed(self.entries) if provider in (None, entry.provider))
        return [entry._asdict() for entry, _ in zip(found, range(limit), strict=False)]
