"""Finds messages in a lane: waiting, in flight, among the dead letters, and by their ends in the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from relay.operations import reasons_to_wait
from relay.operations.find_in_journal import (
    WAITS_AGAIN,
    attempts_of,
    ended,
    of_present_life,
    with_history,
)
from relay.operations.found import Found, FoundAttempt, State
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store import dead, lookup
from relay.store.attempts import of_tries
from relay.store.dead import DeadLetter
from relay.store.dead_filter import DeadFilter
from relay.store.fleet import Member
from relay.store.groups import GroupStatus, read_group
from relay.store.journal import JournalEntry, JournalQuery
from relay.store.keys import LaneKeys
from relay.store.lookup import Located, Where
from relay.store.overview import LaneStatus
from relay.store.record import scoped

IS_DEAD = frozenset({"dead", "rejected"})
"""Outcomes in the journal after which the message is a dead letter, until an operator takes it."""


@dataclass(frozen=True, slots=True)
class SearchedLane:
    """A lane in which messages are looked for."""

    status: LaneStatus
    workers: Mapping[str, Member]
    now: float

    @property
    def provider(self) -> str:
        return self.status.provider

    @property
    def order(self) -> str:
        return "fifo" if self.status.settings is None else self.status.settings.order


async def journalled(
    client: Client, settings: Settings, lane: SearchedLane, newest: JournalEntry
) -> list[Found]:
    """Return the message of an entry, which is its newest one, with its present place."""
    if newest.outcome in WAITS_AGAIN:
        return await in_lane(client, settings, lane, newest.id)
    letters = await _dead(client, settings, lane, newest.id) if newest.outcome in IS_DEAD else []
    return letters or await ended(client, settings, lane.provider, newest.id)


def scopes(settings: Settings) -> list[str]:
    """The scopes within which an id counts: the fleet, and each queue with ids of its own."""
    return ["", *(queue.name for queue in settings.queues if queue.scope == "queue")]


async def in_lane(client: Client, settings: Settings, lane: SearchedLane, message_id: str) -> list[Found]:
    prefix, name = settings.redis.prefix, lane.provider
    found: list[Found] = []
    if lane.status.backlog:
        for ticket in await lookup.tickets_of_id(client, prefix, name, message_id, scopes(settings)):
            one = await located(client, settings, lane, ticket)
            if one is not None and one.id == message_id:
                found.append(one)
    if lane.status.dead and not found:
        found += await _dead(client, settings, lane, message_id)
    return (
        found
        or await ended(client, settings, lane.provider, message_id)
        or await _delivered_lately(client, settings, lane, message_id)
    )


async def _delivered_lately(
    client: Client, settings: Settings, lane: SearchedLane, message_id: str
) -> list[Found]:
    """Return the message if `dedup_window` still remembers its delivery, which the journal may not have."""
    names = [scoped(message_id, scope) for scope in scopes(settings)]
    prefix, name = settings.redis.prefix, lane.provider
    if not await lookup.was_delivered_lately(client, prefix, name, names, lane.now):
        return []
    return [Found(name, message_id, State.ENDED, outcome="delivered")]


async def located(client: Client, settings: Settings, lane: SearchedLane, ticket: int) -> Found | None:
    """Return a message that has not ended."""
    prefix, name = settings.redis.prefix, lane.provider
    found = await lookup.locate(client, prefix, name, ticket, list(lane.workers), lane.order)
    if found is not None and found.where is Where.MOVING:
        found = await lookup.locate(client, prefix, name, ticket, list(lane.workers), lane.order)
    if found is None:
        return None
    group = None
    if found.message.group:
        group = await read_group(client, LaneKeys.of(prefix, name), found.message.group, lane.now)
    position = await _position(client, prefix, lane, found)
    attempts = await attempts_of(client, settings, name, found.message.id)
    return Found(
        provider=name,
        id=found.message.id,
        state=_state(found.where),
        group=found.message.group,
        queue=found.message.queue,
        position=position,
        due_at=_due_at(lane, found, group, position),
        worker=found.worker,
        why_not_now=_why(lane, found, group, position),
        attempts=with_history(of_present_life(attempts), of_tries(found.tries)),
        message=msgspec.structs.replace(found.message, priority=found.ticket % 4),
    )


def _state(where: Where) -> State:
    match where:
        case Where.IN_FLIGHT:
            return State.IN_FLIGHT
        case Where.DELAYED:
            return State.DELAYED
        case Where.BLOCKED:
            return State.BLOCKED
        case _:
            return State.WAITING


async def _position(client: Client, prefix: str, lane: SearchedLane, found: Located) -> int | None:
    """Return its place in line. With groups it is an estimate: each of them has one turn per round."""
    if found.where not in (Where.READY, Where.GROUP) or found.ahead is None:
        return None
    before = await lookup.count_before(client, prefix, lane.provider, found.ticket % 4)
    ahead = found.ahead
    if found.where is Where.GROUP:
        others = sum(
            min(group.waiting, found.ahead + 1)
            for group in lane.status.groups.found
            if group.group != found.message.group
        )
        ahead = min(found.ahead + others, max(found.ahead, lane.status.waiting - 1 - before))
    return before + ahead + 1


def _due_at(
    lane: SearchedLane, found: Located, group: GroupStatus | None, position: int | None
) -> float | None:
    """Return the time of its next attempt, if it is known."""
    if found.where is Where.DELAYED:
        return max(found.due_at, lane.now)
    if position is None or reasons_to_wait.is_endless(lane.status, group):
        return None
    speed = lane.status.per_second or lane.status.recent.delivered_per_second
    hold = max(lane.status.hold, group.hold if group is not None else 0.0)
    if not speed and position > 1:
        return None
    return lane.now + hold + ((position - 1) / speed if speed else 0.0)


def _why(lane: SearchedLane, found: Located, group: GroupStatus | None, position: int | None) -> str:
    """Return the reason why it does not go now, in one sentence."""
    match found.where:
        case Where.IN_FLIGHT:
            return reasons_to_wait.in_flight(lane.workers.get(found.worker), found.worker, lane.now)
        case Where.BLOCKED:
            return reasons_to_wait.blocked(found)
        case Where.SUSPECT:
            return "the provider refused it; other messages are tried to find the cause"
        case Where.FAN_OUT:
            return f"its {found.targets:,} targets are being made into messages"
        case Where.DELAYED:
            return reasons_to_wait.delayed(found, lane.status)
        case _:
            return reasons_to_wait.waiting(lane.status, found, group, position)


async def _dead(client: Client, settings: Settings, lane: SearchedLane, message_id: str) -> list[Found]:
    """Return the dead letters with this id."""
    stream = dead.lane_stream(settings.redis.prefix, lane.provider)
    pages = dead.pages(client, stream, DeadFilter(id=message_id))
    letters = [letter async for page in pages for letter in page if _has_id(letter, message_id)]
    attempts = await attempts_of(client, settings, lane.provider, message_id) if letters else []
    return [_dead_letter(lane.provider, letter, attempts) for letter in letters]


def _has_id(letter: DeadLetter, message_id: str) -> bool:
    return letter.message is not None and letter.message.id == message_id


def _dead_letter(provider: str, letter: DeadLetter, attempts: Sequence[FoundAttempt]) -> Found:
    message_id = letter.message.id if letter.message else ""
    return Found(
        provider=provider,
        id=message_id,
        state=State.DEAD,
        group=letter.message.group if letter.message else "",
        queue=letter.queue,
        outcome="dead",
        ended_at=letter.at,
        why_not_now=f"it is a dead letter: {letter.reason}; "
        f"`relay dead retry {provider} --id {message_id}` sends it again",
        attempts=with_history([one for one in attempts if one.at <= letter.at + 1], letter.history),
        message=letter.message,
    )


async def tickets_of(
    client: Client, settings: Settings, lane: SearchedLane, query: JournalQuery, limit: int
) -> list[int]:
    """Return the messages of a group or a key that have not ended, and perhaps a few others."""
    prefix, provider, tickets = settings.redis.prefix, lane.provider, list[int]()
    if query.group and lane.status.backlog:
        tickets += await lookup.tickets_of_group(client, prefix, provider, query.group, limit)
    for scope in scopes(settings) if query.ordering_key or query.collapse_key else ():
        if query.ordering_key:
            key = scoped(query.ordering_key, scope)
            tickets += await lookup.tickets_of_ordering_key(client, prefix, provider, key, limit)
        if query.collapse_key:
            key = scoped(query.collapse_key, scope)
            tickets += await lookup.tickets_of_collapse_key(client, prefix, provider, key)
    return list(dict.fromkeys(tickets))
