"""Dead letters of one provider or queue, or of all: read, count, group, retry and delete them.

Everything works page by page, in little memory: this module must not import pydantic or the adapters. Only a
malformed letter needs them, to be parsed again; the caller passes them as an `Intake`.

Every function raises StoreError, and UsageError for an order that cannot be carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.errors import UsageError
from relay.operations.dead_selection import DeadSelection
from relay.redis_client.client import Client
from relay.store import dead, registry
from relay.store.dead import DeadLetter, Form
from relay.text import alike

if TYPE_CHECKING:
    from relay.settings.models import Settings
    from relay.settings.outline import Outline

MOST_REASONS = 1000
"""Reasons that `by_reason` tells apart."""

OTHER = "other reasons"


@dataclass(frozen=True)
class DeadScope:
    """What the commands need of a configuration."""

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


@dataclass
class ReasonGroup:
    """Letters with the same status whose reasons differ in numbers, ids, URLs and quoted words only."""

    reason: str
    status: int
    count: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    example: DeadLetter | None = None
    """The newest one."""
    providers: Counter[str] = field(default_factory=Counter)


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
        names = ", ".join([*scope.providers, *scope.queues])
        raise UsageError(f"no provider or queue {name!r} in {scope.path}; known: {names}")
    return found


async def pages(
    client: Client, scope: DeadScope, selection: DeadSelection, *, form: Form = "whole"
) -> AsyncIterator[Sequence[DeadLetter]]:
    """Yield the letters that match, without the limit: page by page, one stream after the other."""
    for place in await places(client, scope, selection.name):
        where = selection.where
        only = place.only_queue
        reading = dead.pages(
            client,
            place.stream,
            where,
            form="whole" if only else form,
            provider=place.provider,
            queue=place.queue,
        )
        async for page in reading:
            yield [letter for letter in page if letter.queue == only] if only else page


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
    if selection.where.is_all and not any(place.only_queue for place in found):
        number = sum([await dead.count(client, place.stream) for place in found])
    else:
        number = 0
        async for page in pages(client, scope, selection, form="brief"):
            number += len(page)
            if limit is not None and number >= limit:
                break
    return number if limit is None else min(number, limit)


async def by_reason(client: Client, scope: DeadScope, selection: DeadSelection) -> list[ReasonGroup]:
    """Group the letters by reason and status, the largest group first."""
    groups: dict[tuple[str, int], ReasonGroup] = {}
    number = 0
    async for page in pages(client, scope, selection, form="brief"):
        for letter in page[: selection.capacity(number)]:
            number += 1
            key = (alike(letter.reason), letter.status)
            if key not in groups and len(groups) >= MOST_REASONS:
                key = (OTHER, 0)
            group = groups.setdefault(key, ReasonGroup(*key))
            group.count += 1
            group.providers[letter.provider] += 1
            group.first_at = min(group.first_at or letter.at, letter.at)
            if letter.at >= group.last_at:
                group.last_at, group.example = letter.at, letter
        if selection.capacity(number) == 0:
            break
    for group in groups.values():
        if group.example is not None and group.example.message is None:
            group.example = await dead.read_complete(client, group.example) or group.example
    return sorted(groups.values(), key=lambda group: (-group.count, group.reason, group.status))


def _of_lane(scope: DeadScope, provider: str, only_queue: str = "") -> Place:
    return Place(dead.lane_stream(scope.prefix, provider), provider=provider, only_queue=only_queue)


def _of_queue(scope: DeadScope, queue: str) -> Place:
    return Place(dead.queue_stream(scope.prefix, queue), queue=queue)
