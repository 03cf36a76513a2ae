"""The letters that a command is about. Imports little: the command line hands it to a lean process."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from relay.errors import UsageError
from relay.store.dead_filter import ALL, DeadFilter
from relay.text import quote, rfc3339

if TYPE_CHECKING:
    from relay.store.dead import DeadLetter

_ENTRY = re.compile(r"\d{1,20}-\d{1,20}")


class LetterName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names one letter: its entry in the stream of a provider, or of a queue if it belongs to no provider."""

    entry: Annotated[str, Meta(pattern=f"^{_ENTRY.pattern}$", description="Its `entry`.")]
    provider: str = ""
    queue: str = ""

    @classmethod
    def of(cls, letter: DeadLetter) -> LetterName:
        return cls(letter.entry, letter.provider, "" if letter.provider else letter.queue)

    @property
    def cursor(self) -> str:
        """The name in one text: `ENTRY/lane/PROVIDER`, or `ENTRY/queue/QUEUE`."""
        return f"{self.entry}/lane/{self.provider}" if self.provider else f"{self.entry}/queue/{self.queue}"


def parse_cursor(text: str) -> LetterName:
    """Return the letter that a cursor names. Raises UsageError."""
    entry, _, place = text.partition("/")
    kind, _, name = place.partition("/")
    if not _ENTRY.fullmatch(entry) or kind not in ("lane", "queue") or not name:
        raise UsageError(f"--after: {quote(text)} is not the `cursor` of a letter, which `--json` shows")
    return LetterName(entry, name) if kind == "lane" else LetterName(entry, queue=name)


@dataclass(frozen=True)
class DeadSelection:
    """The letters of a command: those of a provider or a queue, or of all (`name` None)."""

    name: str | None = None
    where: DeadFilter = ALL
    limit: int | None = None
    """The most letters, the oldest first."""
    letters: Sequence[LetterName] = ()
    """Only these letters, if there are any."""
    after: LetterName | None = None
    """Only letters that a list has after this one."""

    def capacity(self, number: int) -> int | None:
        """Return the number of letters that the limit still allows after `number` letters. None without a
        limit."""
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
            "chosen": len(self.letters) or "",
        }
        return ", ".join(f"{name} {value}" for name, value in shown.items() if value)


def _statuses(statuses: tuple[int, int] | None) -> str:
    if statuses is None:
        return ""
    lowest, highest = statuses
    return str(lowest) if lowest == highest else f"{lowest // 100}xx"


def _time(seconds: float) -> str:
    return rfc3339(seconds) if seconds else ""
