"""Finds messages wherever they are, with their attempts, and says when they will go and why not now."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import msgspec

from relay.errors import StoreError, UsageError
from relay.operations import reasons_to_wait
from relay.redis_client.client import Client, is_refusal
from relay.settings.models import Settings
from relay.store import dead, journal, lookup
from relay.store.attempts import Attempt, of_tries
from relay.store.dead import DeadLetter
from relay.store.dead_filter import DeadFilter
from relay.store.fleet import Member
from relay.store.groups import GroupStatus, read_group
from relay.store.journal import JournalEntry, JournalQuery
from relay.store.keys import LaneKeys
from relay.store.lookup import Located, Queued, Where
from relay.store.overview import LaneStatus, Overview, QueueStatus, read_overview, read_provider
from relay.store.record import scoped
from relay.text import quote

LONGEST_ID = 128 + 16
"""Characters of an id; parts of a fan-out have `#` and a number behind it."""

FURTHER_LOOKS = 3
"""A message may move from its queue into its lane, or end, between two reads of one look."""

BETWEEN_LOOKS = 0.4
"""Seconds. All looks together take longer than an entry of the journal needs to arrive."""

MOST_ENTRIES = 200
"""Entries of the journal about one message."""

WAITS_AGAIN = frozenset({"retry", "throttled", "unauthorised"})
"""Outcomes in the journal after which the message is still there."""

IS_DEAD = frozenset({"dead", "rejected"})
"""Outcomes in the journal after which the message is a dead letter, until an operator takes it."""

FINISHED_OTHERWISE = frozenset({"duplicate"})
"""An entry about another element with the same id."""


class State(StrEnum):
    """What has become of a message."""

    QUEUED = "queued"
    WAITING = "waiting"
    DELAYED = "delayed"
    BLOCKED = "blocked"
    IN_FLIGHT = "in_flight"
    DEAD = "dead"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class FoundAttempt:
    """One attempt. `at` is in Unix seconds, `status` 0 if there was no answer."""

    at: float
    outcome: str
    status: int
    reason: str
    request_seconds: float
    worker: str
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One message. Times are in Unix seconds."""

    provider: str
    """Empty for an element of a queue that no worker has read."""
    id: str
    state: State
    group: str = ""
    queue: str = ""
    position: int | None = None
    """1 for the next message of its lane or queue; None: unknown, or beyond what is counted."""
    due_at: float | None = None
    """When it will go, as far as can be told."""
    worker: str = ""
    outcome: str = ""
    """How it ended, as in receipts."""
    ended_at: float | None = None
    why_not_now: str = ""
    attempts: Sequence[FoundAttempt] = field(default=())


@dataclass(frozen=True, slots=True)
class _Lane:
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


async def find(
    client: Client, settings: Settings, message_id: str, provider: str | None = None
) -> list[Found]:
    """Return all messages with this id, over all lanes and queues of the fleet or in one lane.

    Raises UsageError for an id or a provider that cannot be, StoreError.
    """
    if not 0 < len(message_id) <= LONGEST_ID:
        raise UsageError(f"ID: write 1 to {LONGEST_ID} characters, this has {len(message_id)}")
    _check_unicode("ID", message_id)
    found, is_moving = await _look(client, settings, message_id, provider)
    for _ in range(FURTHER_LOOKS):
        if found or not is_moving:
            break
        await asyncio.sleep(BETWEEN_LOOKS)
        found, is_moving = await _look(client, settings, message_id, provider)
    return found


async def _look(
    client: Client, settings: Settings, message_id: str, provider: str | None
) -> tuple[list[Found], bool]:
    """Look once at all places. Returns also whether a worker may have moved the message meanwhile."""
    overview = await _overview(client, settings, provider)
    lanes = [_in_lane(client, settings, lane, message_id) for lane in _lanes(overview)]
    if provider is not None:
        overview = await read_overview(client, settings)
    queues = _in_queues(client, settings, overview, message_id)
    found = await _readable((*queues, *lanes))
    return [one for one in found if provider in (None, one.provider)], bool(overview.alive)


async def _readable(searches: Iterable[Coroutine[Any, Any, list[Found]]]) -> list[Found]:
    """Return all results. A key that Redis refuses to read spoils only the search of its own lane or queue.

    Raises StoreError if nothing is found and something could not be read.
    """
    results = await asyncio.gather(*searches, return_exceptions=True)
    found: list[Found] = []
    refusals: list[StoreError] = []
    for result in results:
        if isinstance(result, StoreError) and (is_refusal(result) or result.__cause__ is None):
            refusals.append(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            found += result
    if refusals and not found:
        raise refusals[0]
    return found


async def search(
    client: Client, settings: Settings, query: JournalQuery, provider: str | None = None, limit: int = 20
) -> list[Found]:
    """Return the newest messages with a group, an ordering key, a collapse key, a target or a trace.

    Messages that wait are found by group and keys; those that have ended only if the journal has them. Raises
    UsageError, StoreError.
    """
    for name in ("group", "ordering_key", "collapse_key", "target", "traceparent"):
        _check_unicode(f"--{name.replace('_', '-')}", getattr(query, name))
    prefix = settings.redis.prefix
    found: list[Found] = []
    for lane in _lanes(await _overview(client, settings, provider)):
        tickets = await _tickets_of(client, settings, lane.provider, query, limit)
        located = [await _located(client, settings, lane, ticket) for ticket in tickets[:limit]]
        found += filter(None, located)
        entries = await journal.search(client, prefix, lane.provider, query, limit=MOST_ENTRIES)
        known = {one.id for one in found}
        newest: dict[str, JournalEntry] = {}
        for entry in entries:
            newest.setdefault(entry.id, entry)
        for message_id in [name for name in newest if name not in known][:limit]:
            found += await _journalled(client, settings, lane, newest[message_id])
    return found[:limit]


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name}: {quote(text)} is not valid UTF-8") from None


async def _journalled(client: Client, settings: Settings, lane: _Lane, newest: JournalEntry) -> list[Found]:
    """Return the message of an entry, which is the newest of its message, in the place where it is now."""
    if newest.outcome in WAITS_AGAIN:
        return await _in_lane(client, settings, lane, newest.id)
    letters = await _dead(client, settings, lane, newest.id) if newest.outcome in IS_DEAD else []
    return letters or await _ended(client, settings, lane, newest.id)


async def _overview(client: Client, settings: Settings, provider: str | None) -> Overview:
    if provider is None:
        return await read_overview(client, settings)
    overview = await read_provider(client, settings, provider)
    if not overview.lanes:
        raise UsageError(
            f"no provider {quote(provider)} in {settings.path}, and no lane of it; "
            f"known: {', '.join(settings.providers)}"
        )
    return overview


def _lanes(overview: Overview) -> list[_Lane]:
    workers = {member.info.worker: member for member in (*overview.workers, *overview.lost)}
    return [_Lane(status, workers, overview.at) for status in overview.lanes]


def scopes(settings: Settings) -> list[str]:
    """The scopes within which an id counts: the fleet, and each queue with ids of its own."""
    return ["", *(queue.name for queue in settings.queues if queue.scope == "queue")]


async def _in_lane(client: Client, settings: Settings, lane: _Lane, message_id: str) -> list[Found]:
    prefix, name = settings.redis.prefix, lane.provider
    found: list[Found] = []
    if lane.status.backlog:
        for ticket in await lookup.tickets_of_id(client, prefix, name, message_id, scopes(settings)):
            one = await _located(client, settings, lane, ticket)
            if one is not None and one.id == message_id:
                found.append(one)
    if lane.status.dead and not found:
        found += await _dead(client, settings, lane, message_id)
    return (
        found
        or await _ended(client, settings, lane, message_id)
        or await _delivered_lately(client, settings, lane, message_id)
    )


async def _delivered_lately(client: Client, settings: Settings, lane: _Lane, message_id: str) -> list[Found]:
    """Return the message if `dedup_window` still remembers its delivery, which the journal may not have."""
    names = [scoped(message_id, scope) for scope in scopes(settings)]
    prefix, name = settings.redis.prefix, lane.provider
    if not await lookup.was_delivered_lately(client, prefix, name, names, lane.now):
        return []
    return [Found(name, message_id, State.ENDED, outcome="delivered")]


async def _located(client: Client, settings: Settings, lane: _Lane, ticket: int) -> Found | None:
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
    attempts = await _attempts(client, settings, name, found.message.id)
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
        attempts=_with_history(_of_present_life(attempts), of_tries(found.tries)),
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


async def _position(client: Client, prefix: str, lane: _Lane, found: Located) -> int | None:
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


def _due_at(lane: _Lane, found: Located, group: GroupStatus | None, position: int | None) -> float | None:
    """Return when it will go, if that can be told."""
    if found.where is Where.DELAYED:
        return max(found.due_at, lane.now)
    if position is None or reasons_to_wait.is_endless(lane.status, group):
        return None
    speed = lane.status.per_second or lane.status.recent.delivered_per_second
    hold = max(lane.status.hold, group.hold if group is not None else 0.0)
    if not speed and position > 1:
        return None
    return lane.now + hold + ((position - 1) / speed if speed else 0.0)


def _why(lane: _Lane, found: Located, group: GroupStatus | None, position: int | None) -> str:
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


async def _dead(client: Client, settings: Settings, lane: _Lane, message_id: str) -> list[Found]:
    """Return the dead letters with this id."""
    stream = dead.lane_stream(settings.redis.prefix, lane.provider)
    pages = dead.pages(client, stream, DeadFilter(id=message_id))
    letters = [letter async for page in pages for letter in page if _has_id(letter, message_id)]
    attempts = await _attempts(client, settings, lane.provider, message_id) if letters else []
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
        attempts=_with_history([one for one in attempts if one.at <= letter.at + 1], letter.history),
    )


async def _ended(client: Client, settings: Settings, lane: _Lane, message_id: str) -> list[Found]:
    """Return the message if the journal has its end."""
    entries = await _entries(client, settings, lane.provider, message_id)
    last = next((entry for entry in reversed(entries) if entry.outcome not in WAITS_AGAIN), None)
    if last is None:
        return []
    return [
        Found(
            provider=lane.provider,
            id=message_id,
            state=State.ENDED,
            group=last.group,
            outcome=last.outcome,
            ended_at=last.at,
            worker=last.worker,
            attempts=[_attempt(entry) for entry in entries],
        )
    ]


async def _entries(client: Client, settings: Settings, provider: str, message_id: str) -> list[JournalEntry]:
    """Return the journal about a message, the oldest entry first."""
    query = JournalQuery(id=message_id)
    entries = await journal.search(client, settings.redis.prefix, provider, query, limit=MOST_ENTRIES)
    return entries[::-1]


async def _attempts(client: Client, settings: Settings, provider: str, message_id: str) -> list[FoundAttempt]:
    return [_attempt(entry) for entry in await _entries(client, settings, provider, message_id)]


def _attempt(entry: JournalEntry) -> FoundAttempt:
    return FoundAttempt(
        entry.at,
        entry.outcome,
        entry.status,
        entry.reason,
        entry.request_seconds,
        entry.worker,
        entry.provider_id,
    )


def _of_present_life(attempts: Sequence[FoundAttempt]) -> list[FoundAttempt]:
    """Leave out the attempts of an earlier message with the same id, which has ended."""
    ends = [
        index
        for index, one in enumerate(attempts)
        if one.outcome not in WAITS_AGAIN and one.outcome not in FINISHED_OTHERWISE
    ]
    return list(attempts[ends[-1] + 1 :] if ends else attempts)


def _with_history(attempts: Sequence[FoundAttempt], history: Sequence[Attempt]) -> list[FoundAttempt]:
    """Add the attempts that the message itself remembers, and that the journal does not have (yet)."""
    known = {(round(one.at), one.status) for one in attempts}
    more = [
        FoundAttempt(one.at, "retry", one.status, one.reason, 0.0, one.worker)
        for one in history
        if not {(round(one.at) + shift, one.status) for shift in (-1, 0, 1)} & known
    ]
    return sorted([*attempts, *more], key=lambda one: one.at)


def _in_queues(
    client: Client, settings: Settings, overview: Overview, message_id: str
) -> list[Coroutine[Any, Any, list[Found]]]:
    """Return the search of each queue for elements that no worker has put into a lane yet."""
    workers = [member.info.worker for member in overview.workers]
    return [
        _in_queue(client, settings, queue, workers, message_id)
        for queue in overview.queues
        if queue.waiting or queue.taken
    ]


async def _in_queue(
    client: Client, settings: Settings, queue: QueueStatus, workers: Sequence[str], message_id: str
) -> list[Found]:
    found: list[Found] = []
    part, prefix = _same_in_json(message_id), settings.redis.prefix
    async for one in lookup.elements_with(client, prefix, queue.name, part, workers):
        if (provider := _provider_of(settings, one, message_id)) is not None:
            why = reasons_to_wait.queued(queue, one)
            found.append(
                Found(
                    provider,
                    message_id,
                    State.QUEUED,
                    queue=queue.name,
                    position=one.position,
                    why_not_now=why,
                )
            )
    return list(dict.fromkeys(replace(one, attempts=()) for one in found))


def _same_in_json(text: str) -> str:
    """Return the longest part of a text that every JSON encoder writes alike."""
    return max(re.findall(r"[\w.:-]+", text, re.ASCII), key=len, default='"id"')


def _provider_of(settings: Settings, queued: Queued, message_id: str) -> str | None:
    """Return the provider of an element, empty if it is unknown; None if it has another id."""
    try:
        element: Any = msgspec.json.decode(queued.element)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(element, dict) or element.get("id") != message_id:
        return None
    named = element.get("provider")
    default = next((queue.provider for queue in settings.queues if queue.name == queued.queue), None)
    return named if isinstance(named, str) else default or ""


async def _tickets_of(
    client: Client, settings: Settings, provider: str, query: JournalQuery, limit: int
) -> list[int]:
    """Return the waiting messages of a group or a key."""
    prefix, tickets = settings.redis.prefix, list[int]()
    if query.group:
        tickets += await lookup.tickets_of_group(client, prefix, provider, query.group, limit)
    for scope in scopes(settings) if query.ordering_key or query.collapse_key else ():
        if query.ordering_key:
            key = scoped(query.ordering_key, scope)
            tickets += await lookup.tickets_of_ordering_key(client, prefix, provider, key, limit)
        if query.collapse_key:
            key = scoped(query.collapse_key, scope)
            tickets += await lookup.tickets_of_collapse_key(client, prefix, provider, key)
    return list(dict.fromkeys(tickets))


def documents(found: Iterable[Found]) -> list[dict[str, Any]]:
    """Return the document of `relay find --json`."""
    return [
        {
            "provider": one.provider or None,
            "id": one.id,
            "group": one.group or None,
            "queue": one.queue or None,
            "state": one.state.value,
            "position": one.position,
            "due_at": one.due_at,
            "worker": one.worker or None,
            "outcome": one.outcome or None,
            "ended_at": one.ended_at,
            "why_not_now": one.why_not_now or None,
            "attempts": [
                {
                    "at": attempt.at,
                    "outcome": attempt.outcome,
                    "status": attempt.status or None,
                    "reason": attempt.reason,
                    "request_seconds": round(attempt.request_seconds, 6),
                    "worker": attempt.worker or None,
                    "provider_id": attempt.provider_id or None,
                }
                for attempt in one.attempts
            ],
        }
        for one in found
    ]
