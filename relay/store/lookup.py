"""Finds single messages in lanes and queues, for operators. Read only, in small steps.

Nothing here is one atomic step: a message may move meanwhile, so a place is the one of a moment ago.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from relay.errors import StoreError
from relay.message import PRIORITIES, Message
from relay.redis_client.client import REDIS_ERRORS, Client, describe, execute
from relay.store.keys import LaneKeys, QueueKeys
from relay.store.reading import read_all
from relay.store.record import scoped, unpack
from relay.store.scripting import script

MOST_BODIES = 200_000
"""Messages of a lane that are searched for an id that Redis has no index of."""

MOST_CANDIDATES = 1000
"""Messages that contain the name of a group, after which the search for it ends."""

MOST_ELEMENTS = 10_000
"""Elements at each end of a queue that are searched."""

MOST_AHEAD = 100_000
"""Tickets at the head of a list among which a place is looked for."""

LONGEST_ELEMENT = 1024 * 1024
"""Bytes of an element that is searched."""

_PAGE = 500
_PAGE_BYTES = 128 * 1024
"""Bytes after which one step of a search ends: Redis serves no other client meanwhile."""
_TICKETS = 2_000
"""Tickets that are read together: they are short."""


class Where(StrEnum):
    """The place of a message in its lane."""

    IN_FLIGHT = "in flight"
    SUSPECT = "suspect"
    """The provider refused it, and other messages decide about the reason."""
    DELAYED = "delayed"
    BLOCKED = "blocked"
    """It waits for another message with its ordering key."""
    GROUP = "group"
    """It waits for the turn of its group."""
    READY = "ready"
    FAN_OUT = "fan-out"
    """Its targets are being expanded into messages."""
    MOVING = "moving"
    """It changed its place while it was looked for."""


@dataclass(frozen=True, slots=True)
class Located:
    """One message of a lane."""

    ticket: int
    message: Message
    where: Where
    tries: str = ""
    """The counters of the message, as in the lane's `tries`."""
    worker: str = ""
    """The worker that has it in flight."""
    due_at: float = 0.0
    """Unix seconds, if it is delayed."""
    ahead: int | None = None
    """Messages before it in its own list or group, or with its ordering key; None: more than are counted."""
    behind: str = ""
    """The id of the message that may be sent now with its ordering key."""
    targets: int = 0
    """The targets of a fan-out."""

    @property
    def priority(self) -> str:
        return PRIORITIES[self.ticket % 4]


@dataclass(frozen=True, slots=True)
class Queued:
    """An element that no worker has put into a lane yet."""

    queue: str
    place: str
    """`waiting`, `taken by WORKER` or `deferred`."""
    position: int
    """1 for the next element."""
    element: bytes


async def tickets_of_id(
    client: Client, prefix: str, provider: str, message_id: str, scopes: Iterable[str]
) -> list[int]:
    """Return the tickets of the messages with this id: at most one of each scope, and parts of fan-outs.

    An id that relay has made is in no index: up to `MOST_BODIES` messages are searched. Raises StoreError.
    """
    keys = LaneKeys.of(prefix, provider)
    names = [scoped(message_id, scope) for scope in scopes]
    try:
        indexed: Any = await execute(client, "HMGET", keys.part("ids"), *names)
    except REDIS_ERRORS as error:
        raise StoreError(f"{provider}: {describe(error)}") from error
    found = [int(ticket) for ticket in indexed if ticket is not None and ticket.isdigit()]
    # With its length, as each record has it: few other messages contain that.
    return found or await _search(client, keys, msgspec.msgpack.encode(message_id))


async def _search(client: Client, keys: LaneKeys, text: str | bytes, most: int = MOST_BODIES) -> list[int]:
    found: list[int] = []
    found_script, cursor, looked_at = script("search_bodies"), b"0", 0
    of_script = keys.of_script(found_script.lane_parts)
    while looked_at < MOST_BODIES and len(found) < most:
        cursor, number, *tickets = await found_script.run(
            client, of_script, cursor, _PAGE, text, _PAGE, _PAGE_BYTES
        )
        found += [int(ticket) for ticket in tickets if ticket.isdigit()]
        looked_at += number
        if cursor == b"0":
            break
    return list(dict.fromkeys(found))


async def was_delivered_lately(
    client: Client, prefix: str, provider: str, names: Iterable[str], now: float
) -> bool:
    """Return whether a lane remembers the delivery of one of these ids (scoped ones). Raises StoreError."""
    key = LaneKeys.of(prefix, provider).part("seen")
    until, error = await read_all(client, *(("ZSCORE", key, name) for name in names))
    if error:
        raise StoreError(error)
    return any(score is not None and float(score) > now * 1000 for score in until)


async def tickets_of_group(client: Client, prefix: str, provider: str, group: str, limit: int) -> list[int]:
    """Return messages of a group: those that wait for its turn first, then those in flight or delayed.

    No index has the latter: up to `MOST_BODIES` messages are searched for the name, and some of those that
    contain it belong to other groups. Raises StoreError.
    """
    keys, found = LaneKeys.of(prefix, provider), list[int]()
    for level in PRIORITIES:
        members = await _members(client, keys.part(f"waiting:{level}"), group, limit - len(found))
        found += members
    if len(found) < limit:
        found += await _search(client, keys, group, MOST_CANDIDATES)
    return found


async def tickets_of_ordering_key(
    client: Client, prefix: str, provider: str, key: str, limit: int
) -> list[int]:
    """Return the message that holds an ordering key, and those that wait for it. Raises StoreError."""
    keys = LaneKeys.of(prefix, provider)
    return [
        *await _field(client, keys.part("ordering"), key),
        *await _members(client, keys.part("blocked"), key, limit - 1),
    ]


async def tickets_of_collapse_key(client: Client, prefix: str, provider: str, key: str) -> list[int]:
    """Return the message that waits under a collapse key, if there is one. Raises StoreError."""
    return await _field(client, LaneKeys.of(prefix, provider).part("collapse"), key)


async def locate(
    client: Client, prefix: str, provider: str, ticket: int, workers: Sequence[str], order: str = "fifo"
) -> Located | None:
    """Return a message with its place in a lane of this order; None if it has ended. Raises StoreError."""
    keys = LaneKeys.of(prefix, provider)
    (record, tries, suspect, due, fan_out, *claims), error = await read_all(
        client,
        ("HGET", keys.part("bodies"), ticket),
        ("HGET", keys.part("tries"), ticket),
        ("HEXISTS", keys.part("suspects"), ticket),
        ("ZSCORE", keys.part("due"), ticket),
        ("HEXISTS", keys.part("fans"), ticket),
        *(("HEXISTS", keys.inflight(worker), ticket) for worker in workers),
    )
    if error and record is None:
        raise StoreError(f"{provider}: {error}")
    if record is None:
        return None
    message = unpack(record)

    def located(where: Where, **more: Any) -> Located:
        text = (tries or b"").decode("utf-8", "replace")
        return Located(ticket, message, where, text, targets=message.targets, **more)

    for worker, claimed in zip(workers, claims, strict=True):
        if claimed:
            return located(Where.IN_FLIGHT, worker=worker)
    if suspect:
        return located(Where.SUSPECT)
    if due is not None:
        return located(Where.DELAYED, due_at=float(due) / 1000)
    if message.ordering_key:
        name = scoped(message.ordering_key, message.scope)
        holder = await _field(client, keys.part("ordering"), name)
        if holder and holder[0] != ticket:
            return located(
                Where.BLOCKED,
                behind=await _id_of(client, keys, holder[0]),
                ahead=1 + await _rank(client, keys.part("blocked"), name, ticket),
            )
    level = PRIORITIES[ticket % 4]
    if message.group and await _is_member(client, keys.part(f"waiting:{level}"), message.group, ticket):
        rank = await _rank(client, keys.part(f"waiting:{level}"), message.group, ticket)
        return located(Where.GROUP, ahead=rank)
    is_there, ahead = await _place(client, keys.part(f"ready:{level}"), ticket, order)
    if is_there:
        return located(Where.READY, ahead=ahead)
    return located(Where.FAN_OUT if fan_out else Where.MOVING)


async def count_before(client: Client, prefix: str, provider: str, level: int) -> int:
    """Return the number of ready messages of more urgent priorities. Raises StoreError."""
    keys = LaneKeys.of(prefix, provider)
    commands = [
        command
        for name in PRIORITIES[:level]
        for command in (("LLEN", keys.part(f"ready:{name}")), ("ZCARD", keys.part(f"waiting:{name}")))
    ]
    numbers, _ = await read_all(client, *commands) if commands else ([], "")
    return sum(number or 0 for number in numbers)


async def elements_with(
    client: Client, prefix: str, queue: str, text: str, workers: Iterable[str]
) -> AsyncIterator[Queued]:
    """Yield the elements of a queue that contain a text: up to `MOST_ELEMENTS` at each end of its list.

    Raises StoreError.
    """
    keys = QueueKeys.of(prefix, queue)
    (lanes, length), _ = await read_all(client, ("HKEYS", keys.deferred), ("LLEN", queue))
    lists = [
        *((keys.processing(worker), f"taken by {worker}") for worker in workers),
        (keys.staged, "waiting"),
        *((keys.deferred_for(lane.decode()), "deferred") for lane in lanes or ()),
    ]
    for key, place in lists:
        async for found in _elements(client, queue, key, place, text, 0, MOST_ELEMENTS):
            yield found
    tail = max(MOST_ELEMENTS, (length or 0) - MOST_ELEMENTS)
    for first in dict.fromkeys((0, tail)):
        async for found in _elements(client, queue, queue, "waiting", text, first, MOST_ELEMENTS):
            yield found


async def _elements(
    client: Client, queue: str, key: str, place: str, text: str, first: int, most: int
) -> AsyncIterator[Queued]:
    start, end = first, first + most
    while start < end:
        last = min(start + _PAGE, end) - 1
        number, *found = await script("search_list").run(
            client, (key,), start, last, text, LONGEST_ELEMENT, _PAGE_BYTES
        )
        for index, element in zip(found[::2], found[1::2], strict=True):
            yield Queued(queue, place, int(index) + 1, element)
        if not number:
            return
        start += number


async def _field(client: Client, key: str, name: str) -> list[int]:
    (ticket,), error = await read_all(client, ("HGET", key, name))
    if error:
        raise StoreError(error)
    return [int(ticket)] if ticket is not None and ticket.isdigit() else []


def _start(name: str) -> bytes:
    """The start of the members of a name: see parts/group_member.lua."""
    encoded = name.encode()
    return b"%d:%s:" % (len(encoded), encoded)


def _member(name: str, ticket: int) -> bytes:
    return _start(name) + b"%016d" % ticket


async def _members(client: Client, key: str, name: str, limit: int) -> list[int]:
    if limit <= 0:
        return []
    start = _start(name)
    words = ("ZRANGEBYLEX", key, b"[" + start, b"(" + start[:-1] + b";", "LIMIT", 0, limit)
    (members,), error = await read_all(client, words)
    if error:
        raise StoreError(error)
    return [int(member[len(start) :]) for member in members or ()]


async def _is_member(client: Client, key: str, name: str, ticket: int) -> bool:
    (score,), error = await read_all(client, ("ZSCORE", key, _member(name, ticket)))
    return score is not None and not error


async def _rank(client: Client, key: str, name: str, ticket: int) -> int:
    """Return how many members of this name are older."""
    words = ("ZLEXCOUNT", key, b"[" + _start(name), b"(" + _member(name, ticket))
    (number,), error = await read_all(client, words)
    if error:
        raise StoreError(error)
    return int(number)


async def _id_of(client: Client, keys: LaneKeys, ticket: int) -> str:
    (record,), _ = await read_all(client, ("HGET", keys.part("bodies"), ticket))
    return "" if record is None else unpack(record).id


async def _place(client: Client, key: str, ticket: int, order: str) -> tuple[bool, int | None]:
    """Return whether a ticket is in a list, and how many are before it.

    A list that is longer than `MOST_AHEAD` is not read to its end: the ticket may be in the rest.
    """
    wanted = b"%d" % ticket
    for start in range(0, MOST_AHEAD, _TICKETS):
        first, last = (start, start + _TICKETS - 1) if order == "fifo" else (-start - _TICKETS, -start - 1)
        (page,), error = await read_all(client, ("LRANGE", key, first, last))
        if error:
            raise StoreError(error)
        if order != "fifo":
            page.reverse()
        if wanted in page:
            return True, start + page.index(wanted)
        if len(page) < _TICKETS:
            return False, None
    return True, None
