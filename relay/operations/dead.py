"""Dead letters of one provider or queue, or of all: read and count them.

Everything works page by page, in little memory: this module must not import pydantic or the adapters. Only a
malformed letter needs them, to be parsed again; the caller passes them as an `Intake`.

Every function raises StoreError, and UsageError for an order that cannot be carried out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.errors import UsageError
from relay.operations.dead_selection import DeadSelection, LetterName
from relay.redis_client.client import Client
from relay.store import dead, registry
from relay.store.dead import DeadLetter, Form
from relay.text import enumerated, quote

if TYPE_CHECKING:
    from relay.settings.models import Settings
    from relay.settings.outline import Outline


@dataclass(frozen=True)
class DeadScope:
    """The parts of a configuration that the commands need."""

    prefix: str
    providers: tuple[str, ...]
    queues: tuple[str, ...]
    path: str
    """The configuration file, for errors."""

    @classmethod
    def of(cls, settings: Settings) -> DeadScope:
        queues = tuple(queue.name for queue in settings.queues)
        return cls(settings.redis.prefix, tuple(settings.providers), queues, str(settings.path))

    @classmethod
    def of_outline(cls, outline: Outline) -> DeadScope:
        return cls(outline.prefix, outline.providers, outline.queues, outline.path)


@dataclass(frozen=True)
class Place:
    """A stream of dead letters. `only_queue`: only the letters from this queue are selected."""

    stream: str
    provider: str = ""
    queue: str = ""
    only_queue: str = ""

    def holds(self, letter: LetterName) -> bool:
        """Return whether a letter is in this stream, if there is such a letter."""
        return (self.provider, self.queue) == (letter.provider, letter.queue)


async def places(client: Client, scope: DeadScope, name: str | None) -> list[Place]:
    """Return the streams to read. A name that the file does not have is found if it has letters.

    Raises UsageError for an unknown name.
    """
    if name is None:
        known = await registry.known(client, scope.prefix)
        providers = dict.fromkeys((*scope.providers, *known.lanes))
        queues = dict.fromkeys((*scope.queues, *known.queues))
        return [*(_of_lane(scope, each) for each in providers), *(_of_queue(scope, each) for each in queues)]
    found: list[Place] = []
    if name in scope.providers:
        found.append(_of_lane(scope, name))
    if name in scope.queues:
        found.append(_of_queue(scope, name))
        found += [_of_lane(scope, each, name) for each in scope.providers if each != name]
    if not found:
        both = (_of_lane(scope, name), _of_queue(scope, name))
        found = [place for place in both if await dead.count(client, place.stream)]
    if not found:
        names = enumerated([*scope.providers, *scope.queues])
        raise UsageError(f"no provider or queue {name!r} in {scope.path}; known: {names}")
    return found


async def pages(
    client: Client, scope: DeadScope, selection: DeadSelection, *, form: Form = "whole"
) -> AsyncIterator[Sequence[DeadLetter]]:
    """Yield the letters that match, without the limit: page by page, one stream after the other."""
    if selection.letters:
        async for page in _named(client, scope, selection, form):
            yield page
        return
    where, after = selection.where, selection.after
    found = await places(client, scope, selection.name)
    for place in found if after is None else _from_letter(found, after):
        only = place.only_queue
        reading = dead.pages(
            client,
            place.stream,
            where,
            after=after.entry if after is not None and place.holds(after) else "",
            form="whole" if only else form,
            provider=place.provider,
            queue=place.queue,
        )
        async for page in reading:
            yield [letter for letter in page if letter.queue == only] if only else page


def _from_letter(found: Sequence[Place], letter: LetterName) -> Sequence[Place]:
    """Return the streams from that of a letter on. Raises UsageError if it is none of them."""
    for number, place in enumerate(found):
        if place.holds(letter):
            return found[number:]
    raise UsageError(f"--after: {quote(letter.cursor)} is no letter of this list")


async def _named(
    client: Client, scope: DeadScope, selection: DeadSelection, form: Form
) -> AsyncIterator[Sequence[DeadLetter]]:
    """Yield the letters that the selection names."""
    entries: dict[tuple[str, str], list[str]] = {}
    for letter in selection.letters:
        stream = (letter.provider, "" if letter.provider else letter.queue)
        entries.setdefault(stream, []).append(letter.entry)
    for place in await places(client, scope, None):
        chosen = entries.get((place.provider, place.queue), [])
        reading = dead.named(
            client, place.stream, chosen, form=form, provider=place.provider, queue=place.queue
        )
        async for page in reading:
            yield page


async def list_letters(
    client: Client, scope: DeadScope, selection: DeadSelection
) -> AsyncIterator[DeadLetter]:
    """Yield the letters up to the limit, the oldest of each stream first. Long raw elements are cut."""
    number = 0
    async for page in pages(client, scope, selection):
        for letter in page[: selection.capacity(number)]:
            yield letter
            number += 1
        if selection.capacity(number) == 0:
            break


async def count(client: Client, scope: DeadScope, selection: DeadSelection) -> int:
    """Return the number of letters, at most the limit."""
    found, limit = await places(client, scope, selection.name), selection.limit
    if not selection.letters and selection.where.is_all and not any(place.only_queue for place in found):
        number = sum([await dead.count(client, place.stream) for place in found])
    else:
        number = 0
        async for page in pages(client, scope, selection, form="brief"):
            number += len(page)
            if limit is not None and number >= limit:
                break
    return number if limit is None else min(number, limit)


def _of_lane(scope: DeadScope, provider: str, only_queue: str = "") -> Place:
    return Place(dead.lane_stream(scope.prefix, provider), provider=provider, only_queue=only_queue)


def _of_queue(scope: DeadScope, queue: str) -> Place:
    return Place(dead.queue_stream(scope.prefix, queue), queue=queue)
