"""Dead letters of all streams in one order, the newest first, a page at a time.

A page begins after a letter, not at a number, so letters that arrive or leave meanwhile move nothing.

Every function raises StoreError, and UsageError for a selection that is not possible.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from relay.operations.dead import DeadScope, list_letters, pages
from relay.operations.dead_selection import DeadSelection, LetterName
from relay.redis_client.client import Client
from relay.store.dead import DeadLetter

Key = tuple[int, int, str, str]
"""The place of a letter in the order: time, number, provider, queue."""


@dataclass(frozen=True)
class LetterPage:
    """A page of letters, the newest first."""

    letters: Sequence[DeadLetter] = ()
    newer: int = 0
    """The number of letters before this page."""
    previous: str | None = None
    """The `after` of the page before: empty for the newest one. None: this is the newest one."""


class Window:
    """Finds the names of one page among all letters, in any order, in little memory."""

    def __init__(self, most: int, after: LetterName | None) -> None:
        self._most = most
        self._after = None if after is None else key_of(after)
        self._page: list[Key] = []
        """A heap, the oldest first."""
        self._nearest: list[Key] = []
        """The last letters before the page, the oldest first: a page and one more."""
        self._newer = 0

    def add(self, name: LetterName) -> None:
        """Take a letter into account."""
        key = key_of(name)
        if self._after is not None and key >= self._after:
            self._newer += 1
            insort(self._nearest, key)
            del self._nearest[self._most + 1 :]
        elif len(self._page) < self._most:
            heapq.heappush(self._page, key)
        elif key > self._page[0]:
            heapq.heapreplace(self._page, key)

    async def read(self, client: Client, scope: DeadScope) -> LetterPage:
        """Read the letters of the page. Those that are deleted meanwhile are left out."""
        names = tuple(_name_of(key) for key in self._page)
        letters: list[DeadLetter] = []
        if names:
            letters = [each async for each in list_letters(client, scope, DeadSelection(letters=names))]
        letters.sort(key=lambda letter: key_of(LetterName.of(letter)), reverse=True)
        previous = None
        if self._newer > self._most:
            previous = _name_of(self._nearest[-1]).cursor
        elif self._newer:
            previous = ""
        return LetterPage(letters, self._newer, previous)


async def newest_letters(client: Client, scope: DeadScope, selection: DeadSelection, most: int) -> LetterPage:
    """Return the newest letters, or those after `selection.after` in that order."""
    window = Window(most, selection.after)
    async for page in pages(client, scope, replace(selection, after=None), form="brief"):
        for letter in page:
            window.add(LetterName.of(letter))
    return await window.read(client, scope)


def key_of(name: LetterName) -> Key:
    """Return the place of a letter in the order."""
    time, _, number = name.entry.partition("-")
    return int(time), int(number), name.provider, name.queue


def _name_of(key: Key) -> LetterName:
    time, number, provider, queue = key
    return LetterName(f"{time}-{number}", provider, queue)
