"""Selects dead letters, retries or deletes them, page by page.

Only a malformed letter needs the router, the lanes and the providers, which take much memory. They are built
when the first such letter is read. For all others, the outline of the configuration is enough.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeAlias

from relay import tasks
from relay.errors import UsageError
from relay.redis_client.client import Client
from relay.settings.outline import Outline
from relay.store import dead
from relay.store.dead import DeadLetter
from relay.store.fleet import Fleet

if TYPE_CHECKING:
    from relay.store.items import Item
    from relay.store.lane import Lane

ELEMENTS_BYTES = 1024 * 1024
"""The most bytes of malformed elements that are parsed again together."""

OnProgress = Callable[[int], None]
"""Is called with the number of letters that were processed."""


class Intake(Protocol):
    """Parses and enqueues elements as a worker does."""

    def route(self, queue: str, element: bytes) -> tuple[str, Item] | None:
        """Return the provider and the item of an element, or None if it is malformed."""

    def lane(self, provider: str) -> Lane:
        """Return the lane of a provider."""


BuildIntake: TypeAlias = Callable[[], Intake]


@dataclass(frozen=True)
class Selection:
    """The letters of a command. `limit`: at most so many, the oldest first."""

    name: str
    message_id: str | None = None
    reason: str | None = None
    limit: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether no filter excludes a letter."""
        return self.message_id is None and self.reason is None

    def matches(self, letter: DeadLetter) -> bool:
        if self.reason is not None and self.reason.lower() not in letter.reason.lower():
            return False
        identity = letter.message.id if letter.message else None
        return self.message_id is None or self.message_id in (letter.entry, identity)


@dataclass
class Result:
    """The number of letters that matched, and that were processed. `left` counts those that stay, by
    reason."""

    matched: int = 0
    done: int = 0
    left: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False


class DeadLetters:
    """The dead letters of one provider or queue."""

    def __init__(self, client: Client, outline: Outline, selection: Selection) -> None:
        self._client = client
        self._outline = outline
        self._prefix = outline.prefix
        self._selection = selection

    async def pages(self) -> AsyncIterator[list[DeadLetter]]:
        """Yield the selected letters, without the limit. Raises UsageError for an unknown name."""
        for stream, queue in await self._streams():
            async for page in dead.pages(self._client, stream):
                yield [
                    letter
                    for letter in page
                    if (queue is None or letter.queue == queue) and self._selection.matches(letter)
                ]

    async def first(self) -> AsyncIterator[DeadLetter]:
        """Yield the oldest letters, up to the limit."""
        number = 0
        async for page in self.pages():
            for letter in page[: self._capacity(number)]:
                yield letter
                number += 1
            if self._capacity(number) == 0:
                break

    async def count(self) -> int:
        """Return the number of selected letters."""
        streams, limit = await self._streams(), self._selection.limit
        if self._selection.is_all and all(queue is None for _, queue in streams):
            number = sum([await dead.count(self._client, stream) for stream, _ in streams])
        else:
            number = 0
            async for page in self.pages():
                number += len(page)
                if limit is not None and number >= limit:
                    break
        return number if limit is None else min(number, limit)

    async def purge(self, progress: OnProgress) -> Result:
        """Delete the letters. If it is cancelled, it returns the result so far."""
        result = Result()
        try:
            async for page in self.pages():
                letters = page[: self._capacity(result.matched)]
                await tasks.run_to_end(self._purge_page(letters, result))
                progress(len(letters))
                if self._capacity(result.matched) == 0:
                    break
        except asyncio.CancelledError:
            result.interrupted = True
        return result

    async def _purge_page(self, letters: Sequence[DeadLetter], result: Result) -> None:
        result.matched += len(letters)
        for stream in dict.fromkeys(letter.stream for letter in letters):
            entries = [letter.entry for letter in letters if letter.stream == stream]
            result.done += await dead.forget(self._client, stream, entries)

    async def retry(self, build_intake: BuildIntake, progress: OnProgress) -> Result:
        """Return the letters to their lanes. The limit counts those that returned.

        `build_intake` is called once, for the first malformed letter. If the retry is cancelled, it returns
        the result so far.
        """
        result, touched, intake = Result(), set[str](), cache(build_intake)
        try:
            async for page in self.pages():
                letters = page
                while letters and (capacity := self._capacity(result.done)) != 0:
                    batch, letters = (
                        letters[:capacity],
                        letters[len(letters) if capacity is None else capacity :],
                    )
                    await tasks.run_to_end(self._retry_page(batch, intake, result, touched))
                    progress(len(batch))
                if self._capacity(result.done) == 0:
                    break
        except asyncio.CancelledError:
            result.interrupted = True
        await tasks.run_to_end(Fleet(self._client, self._prefix).wake(sorted(touched)))
        return result

    async def _retry_page(
        self,
        letters: Sequence[DeadLetter],
        intake: BuildIntake,
        result: Result,
        touched: set[str],
    ) -> None:
        result.matched += len(letters)
        for stream in dict.fromkeys(letter.stream for letter in letters):
            parsed = [letter.entry for letter in letters if letter.stream == stream and letter.message]
            if parsed:
                name = self._provider_of(stream)
                revived, passed = await dead.revive(self._client, self._prefix, name, parsed)
                result.done += revived
                if passed:
                    result.left["duplicate"] += passed
                touched.add(name)
        malformed = [letter for letter in letters if letter.message is None]
        while malformed:
            batch: list[DeadLetter] = []
            size = 0
            while malformed and (not batch or size + malformed[0].raw_size <= ELEMENTS_BYTES):
                batch.append(malformed.pop(0))
                size += batch[-1].raw_size
            await self._retry_malformed(batch, intake, result, touched)

    async def _retry_malformed(
        self,
        letters: Sequence[DeadLetter],
        intake: BuildIntake,
        result: Result,
        touched: set[str],
    ) -> None:
        """Parse malformed elements again, and enqueue those that are valid by now."""
        accepted: dict[str, list[tuple[DeadLetter, Item]]] = {}
        for shown in letters:
            letter = await dead.read_complete(self._client, shown)
            if letter is None:
                result.left["gone"] += 1
                continue
            routed = intake().route(letter.queue or self._selection.name, letter.raw)
            if routed is None:
                result.left["still_malformed"] += 1
            else:
                provider, item = routed
                accepted.setdefault(provider, []).append((letter, item))
        for provider, pairs in accepted.items():
            await intake().lane(provider).enqueue([item for _, item in pairs])
            for stream in dict.fromkeys(letter.stream for letter, _ in pairs):
                entries = [letter.entry for letter, _ in pairs if letter.stream == stream]
                result.done += await dead.forget(self._client, stream, entries)
            touched.add(provider)

    def _capacity(self, number: int) -> int | None:
        limit = self._selection.limit
        return None if limit is None else max(0, limit - number)

    def _provider_of(self, stream: str) -> str:
        names = (*self._outline.providers, self._selection.name)
        return next(name for name in names if dead.lane_stream(self._prefix, name) == stream)

    async def _streams(self) -> list[tuple[str, str | None]]:
        """Return the streams to read, each with the only queue that is selected, if any."""
        outline, name = self._outline, self._selection.name
        streams: list[tuple[str, str | None]] = []
        if name in outline.providers:
            streams.append((dead.lane_stream(self._prefix, name), None))
        if name in outline.queues:
            streams.append((dead.queue_stream(self._prefix, name), None))
            streams += [
                (dead.lane_stream(self._prefix, provider), name)
                for provider in outline.providers
                if provider != name
            ]
        if not streams:
            # The file may no longer name a provider or a queue that has letters.
            both = (dead.lane_stream(self._prefix, name), dead.queue_stream(self._prefix, name))
            streams = [(stream, None) for stream in both if await dead.count(self._client, stream)]
        if not streams:
            names = ", ".join([*outline.providers, *outline.queues])
            raise UsageError(f"no provider or queue {name!r} in {outline.path}; known: {names}")
        return streams
