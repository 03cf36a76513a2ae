"""Retries and deletes dead letters, page by page.

A letter leaves its stream in the same script that puts its message into the lane, so two retries, or a retry
and a purge, never send a message twice. Work that is stopped, or that Redis interrupts, reports how far it
came.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec
from aiolimiter import AsyncLimiter

from relay import tasks
from relay.errors import StoreError
from relay.message import Message
from relay.operations.dead import DeadScope, pages
from relay.operations.dead_selection import DeadSelection
from relay.redis_client.client import Client
from relay.store import audit, dead
from relay.store.audit import AuditEntry
from relay.store.dead import DeadLetter
from relay.store.fleet import Fleet

if TYPE_CHECKING:
    from relay.store.items import Item
    from relay.store.lane import Lane

STEP_SECONDS = 0.1
"""With a rate: the letters of this time are sent together."""

LOW = 2
"""The priority of letters that fresh traffic overtakes."""

ReplayPriority = Literal["own", "low"]


class Intake(Protocol):
    """Parses elements as a worker does, and opens lanes."""

    def route(self, queue: str, element: bytes) -> tuple[str, Item] | None:
        """Return the provider and the item of an element, or None if it is malformed."""

    def lane(self, provider: str) -> Lane:
        """Return the lane of a provider."""


BuildIntake: TypeAlias = Callable[[], Intake]


@dataclass
class DeadResult:
    """The number of letters that matched, and that were processed. `left` counts those that stay, by
    reason: `still_malformed`, `duplicate`, `gone`, `malformed` (no intake)."""

    matched: int = 0
    done: int = 0
    left: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    by_provider: Counter[str] = field(default_factory=Counter)
    """The processed letters by provider; an empty name for elements without one."""


OnProgress: TypeAlias = Callable[[DeadResult], None]
"""Is called after each step with the result so far."""


@dataclass(frozen=True)
class DeadOrder:
    """The options of a retry or a purge. `stop` ends it after the present page, as a cancellation does."""

    who: str
    because: str = ""
    priority: ReplayPriority = "own"
    rate: float = 0.0
    """Letters per second; 0: as fast as possible. The lane's own rate applies in any case."""
    on_progress: OnProgress = lambda _: None
    stop: asyncio.Event = field(default_factory=asyncio.Event)


async def purge(client: Client, scope: DeadScope, selection: DeadSelection, order: DeadOrder) -> DeadResult:
    """Delete the letters permanently. If it is cancelled, it returns the result so far."""
    result = DeadResult()
    async with _Run(client, scope, selection, order, "purge", result):
        async for page in pages(client, scope, selection, form="brief"):
            letters = page[: selection.capacity(result.matched)]
            await tasks.run_to_end(_purge_page(client, letters, result))
            order.on_progress(result)
            if order.stop.is_set() or selection.capacity(result.matched) == 0:
                break
    return result


async def _purge_page(client: Client, letters: Sequence[DeadLetter], result: DeadResult) -> None:
    result.matched += len(letters)
    for stream in dict.fromkeys(letter.stream for letter in letters):
        entries = [letter for letter in letters if letter.stream == stream]
        number = await dead.forget(client, stream, [letter.entry for letter in entries])
        result.done += number
        result.by_provider[entries[0].provider] += number
        if number < len(entries):
            result.left["gone"] += len(entries) - number


async def retry(
    client: Client,
    scope: DeadScope,
    selection: DeadSelection,
    order: DeadOrder,
    build_intake: BuildIntake | None = None,
) -> DeadResult:
    """Return the letters to their lanes, with a new set of attempts. The limit counts those that returned.

    `build_intake` is called once, for the first malformed letter; without it, malformed letters stay. If the
    retry is cancelled, it returns the result so far.
    """
    result = DeadResult()
    work = _Retry(client, scope, order, result, None if build_intake is None else cache(build_intake))
    async with _Run(client, scope, selection, order, "retry", result, work.touched):
        async for page in pages(client, scope, selection):
            letters = page
            while letters and not order.stop.is_set() and selection.capacity(result.done) != 0:
                step = min(work.step, selection.capacity(result.done) or work.step)
                batch, letters = letters[:step], letters[step:]
                await tasks.run_until(order.stop, work.pace(len(batch)))
                if order.stop.is_set():
                    break
                await tasks.run_to_end(work.page(batch))
                order.on_progress(result)
            if order.stop.is_set() or selection.capacity(result.done) == 0:
                break
    return result


class _Retry:
    """The state of one retry."""

    def __init__(
        self,
        client: Client,
        scope: DeadScope,
        order: DeadOrder,
        result: DeadResult,
        intake: BuildIntake | None,
    ) -> None:
        self.touched: set[str] = set()
        self.step = dead.PAGE
        self._limiter: AsyncLimiter | None = None
        if order.rate > 0:
            self.step = max(1, min(dead.PAGE, int(order.rate * STEP_SECONDS)))
            self._limiter = AsyncLimiter(self.step, self.step / order.rate)
        self._client = client
        self._scope = scope
        self._priority = LOW if order.priority == "low" else None
        self._result = result
        self._intake = intake

    async def pace(self, number: int) -> None:
        """Wait until the rate allows this number of letters."""
        if self._limiter is not None:
            await self._limiter.acquire(number)

    async def page(self, letters: Sequence[DeadLetter]) -> None:
        result = self._result
        result.matched += len(letters)
        for stream in dict.fromkeys(letter.stream for letter in letters):
            parsed = [letter for letter in letters if letter.stream == stream and letter.message]
            if not parsed:
                continue
            name = parsed[0].provider
            entries = [letter.entry for letter in parsed]
            revived = await dead.revive(self._client, self._scope.prefix, name, entries, self._priority)
            result.done += revived.done
            result.by_provider[name] += revived.done
            if revived.duplicates:
                result.left["duplicate"] += revived.duplicates
            if revived.gone:
                result.left["gone"] += revived.gone
            self.touched.add(name)
        await self._malformed([letter for letter in letters if letter.message is None])
        if result.done and self._limiter is not None:
            await Fleet(self._client, self._scope.prefix).wake(sorted(self.touched))

    async def _malformed(self, letters: list[DeadLetter]) -> None:
        """Parse malformed elements again, and enqueue those that are valid by now."""
        if self._intake is None:
            if letters:
                self._result.left["malformed"] += len(letters)
            return
        for shown in letters:
            letter = await dead.read_complete(self._client, shown)
            if letter is None:
                self._result.left["gone"] += 1
            elif (routed := self._intake().route(letter.queue, letter.raw)) is None:
                self._result.left["still_malformed"] += 1
            else:
                await self._replay(letter, *routed)

    async def _replay(self, letter: DeadLetter, provider: str, item: Item) -> None:
        assert self._intake is not None
        if self._priority is not None:
            item = with_priority(item, self._priority)
        match await self._intake().lane(provider).replay(item, letter):
            case dead.Replayed.DONE:
                self._result.done += 1
                self._result.by_provider[provider] += 1
                self.touched.add(provider)
            case left:
                self._result.left[left.value] += 1


def with_priority(item: Item, priority: int) -> Item:
    """Return the item with another priority."""
    from dataclasses import replace

    from relay.message.fan_out import FanOut

    if isinstance(item, Message):
        return msgspec.structs.replace(item, priority=priority)
    if isinstance(item, FanOut):
        return replace(item, message=msgspec.structs.replace(item.message, priority=priority))
    return item


class _Run:
    """Surrounds the work: wakes workers and writes the audit log at its end, however it ends.

    A cancellation ends the work with a result; an error of Redis says how far the work came.
    """

    def __init__(
        self,
        client: Client,
        scope: DeadScope,
        selection: DeadSelection,
        order: DeadOrder,
        action: Literal["retry", "purge"],
        result: DeadResult,
        touched: set[str] | None = None,
    ) -> None:
        self._client = client
        self._scope = scope
        self._action = action
        self._order = order
        self._result = result
        self._touched = set[str]() if touched is None else touched
        self._why = ": ".join(filter(None, (selection.describe(), order.because)))

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        result = self._result
        if isinstance(error, StoreError):
            with suppress(StoreError):
                await self._end()
            verb = "retried" if self._action == "retry" else "purged"
            raise StoreError(
                f"{error}; {result.done:,} dead letters were {verb} before, of {result.matched:,} that "
                "matched. Repeat the command for the others"
            ) from error
        if error is None or isinstance(error, asyncio.CancelledError):
            result.interrupted = error is not None or self._order.stop.is_set()
            await tasks.run_to_end(self._end())
            return True
        return False

    async def _end(self) -> None:
        prefix = self._scope.prefix
        if self._touched:
            await Fleet(self._client, prefix).wake(sorted(self._touched))
        for provider, number in self._result.by_provider.items():
            if number:
                entry = AuditEntry(self._action, self._order.who, provider, count=number, why=self._why)
                await audit.record(self._client, prefix, entry)
