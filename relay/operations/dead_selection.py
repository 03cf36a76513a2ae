"""The letters that a command is about. Imports little: the command line hands it to a lean process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay.operations.times import rfc3339
from relay.store.dead_filter import ALL, DeadFilter


@dataclass(frozen=True)
class DeadSelection:
    """The letters of a command: those of a provider or a queue, or of all (`name` None)."""

    name: str | None = None
    where: DeadFilter = ALL
    limit: int | None = None
    """The most letters, the oldest first."""

    def capacity(self, number: int) -> int | None:
        """Return how many letters the limit still allows after so many; None without a limit."""
        return None if self.limit is None else max(0, self.limit - number)

    def describe(self) -> str:
        """Return the filter in one line, for the audit log; empty without one."""
        where = self.where
        shown: Mapping[str, object] = {
            "id": where.id,
            "reason": where.reason,
            "text": where.text,
            "status": _statuses(where.statuses),
            "group": where.group,
            "queue": where.queue,
            "since": _time(where.since),
            "until": _time(where.until),
            "limit": self.limit or "",
        }
        return ", ".join(f"{name} {value}" for name, value in shown.items() if value)


def _statuses(statuses: tuple[int, int] | None) -> str:
    if statuses is None:
        return ""
    lowest, highest = statuses
    return str(lowest) if lowest == highest else f"{lowest // 100}xx"


def _time(seconds: float) -> str:
    return rfc3339(seconds) if seconds else ""
