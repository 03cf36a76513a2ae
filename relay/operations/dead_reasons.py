"""Groups dead letters by their reasons, with one reading of all of them in little memory.

Every function raises StoreError, and UsageError for a selection that is not possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from relay.operations.dead import DeadScope, pages
from relay.operations.dead_newest import LetterPage, Window
from relay.operations.dead_selection import DeadSelection, LetterName
from relay.redis_client.client import Client
from relay.store import dead
from relay.store.dead import DeadLetter
from relay.text import alike

MOST_REASONS = 1000
"""The most reasons that are counted separately."""

OTHER = "other reasons"

TREND_STEP = 1800
"""Seconds of one step of a trend."""

TREND_STEPS = 48
"""Steps of a trend: a day."""


@dataclass
class ReasonGroup:
    """Letters with the same status whose reasons differ in numbers, ids, URLs and quoted words only."""

    reason: str
    status: int
    place: str = ""
    """The provider, or the queue of letters without one, if the letters are grouped by it."""
    count: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    example: DeadLetter | None = None
    """The newest one."""
    providers: Counter[str] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)
    """The letters by the number of their half hour since 1970."""

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        self.count += 1
        self.times[int(letter.at // TREND_STEP)] += 1
        self.providers[letter.provider] += 1
        self.first_at = min(self.first_at or letter.at, letter.at)
        if letter.at >= self.last_at:
            self.last_at, self.example = letter.at, letter

    def trend(self, now: float) -> list[int]:
        """Return the letters of each half hour of the last day, the present one last."""
        last = int(now // TREND_STEP)
        return [self.times[place] for place in range(last - TREND_STEPS + 1, last + 1)]


@dataclass(frozen=True)
class Survey:
    """The letters by provider (or queue), reason and status, the largest group first, and a page of them."""

    groups: Sequence[ReasonGroup] = ()
    page: LetterPage = field(default_factory=LetterPage)


async def by_reason(client: Client, scope: DeadScope, selection: DeadSelection) -> list[ReasonGroup]:
    """Group the letters by reason and status, the largest group first."""
    groups = _Groups(lambda _: "")
    number = 0
    async for page in pages(client, scope, selection, form="brief"):
        for letter in page[: selection.capacity(number)]:
            number += 1
            groups.add(letter)
        if selection.capacity(number) == 0:
            break
    return await groups.finished(client)


async def survey(client: Client, scope: DeadScope, selection: DeadSelection, most: int) -> Survey:
    """Group all letters by provider, reason and status, and return the newest, at most `most`; or those after
    `selection.after`."""
    groups = _Groups(lambda letter: letter.provider or letter.queue)
    window = Window(most, selection.after)
    async for page in pages(client, scope, replace(selection, after=None), form="brief"):
        for letter in page:
            groups.add(letter)
            window.add(LetterName.of(letter))
    return Survey(await groups.finished(client), await window.read(client, scope))


class _Groups:
    """The groups of the letters so far. `place_of` returns the place that distinguishes them."""

    def __init__(self, place_of: Callable[[DeadLetter], str]) -> None:
        self._place_of = place_of
        self._groups: dict[tuple[str, str, int], ReasonGroup] = {}

    def add(self, letter: DeadLetter) -> None:
        key = (self._place_of(letter), alike(letter.reason), letter.status)
        if key not in self._groups and len(self._groups) >= MOST_REASONS:
            key = ("", OTHER, 0)
        place, reason, status = key
        self._groups.setdefault(key, ReasonGroup(reason, status, place)).add(letter)

    async def finished(self, client: Client) -> list[ReasonGroup]:
        """Return the groups, with whole examples."""
        for group in self._groups.values():
            if group.example is not None and group.example.message is None:
                group.example = await dead.read_complete(client, group.example) or group.example
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.reason, group.status))
