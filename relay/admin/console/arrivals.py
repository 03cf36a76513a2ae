"""The elements that arrive in queues: those that workers fetched, and the growth of the backlog."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from relay.store.overview import Overview
from relay.store.vitals import FLOW_SECONDS

LEAST = 3.0
"""Seconds that a queue must be watched: workers publish their counts every two seconds."""


class Arrivals:
    """The backlogs of the last seconds."""

    def __init__(self) -> None:
        self._backlogs: deque[tuple[float, Mapping[str, int]]] = deque()

    def after(self, overview: Overview) -> dict[str, float]:
        """Return the elements that arrive per second, by queue, until this overview."""
        now = {queue.name: queue.waiting + queue.taken for queue in overview.queues}
        while self._backlogs and not 0 <= overview.at - self._backlogs[0][0] <= FLOW_SECONDS:
            self._backlogs.popleft()
        self._backlogs.append((overview.at, now))
        at, before = self._backlogs[0]
        seconds = overview.at - at
        if seconds < LEAST:
            return {}
        return {
            queue.name: max(0.0, queue.flow.per_second + (now[queue.name] - before[queue.name]) / seconds)
            for queue in overview.queues
            if queue.name in before
        }
