"""Finds the attempts of a message, and its end, in the journal of its lane."""

from __future__ import annotations

from collections.abc import Sequence

from relay.operations.found import Found, FoundAttempt, State
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store import journal
from relay.store.attempts import Attempt
from relay.store.journal import JournalEntry, JournalQuery

MOST_ENTRIES = 200
"""Entries of the journal about one message."""

WAITS_AGAIN = frozenset({"retry", "throttled", "unauthorised"})
"""Outcomes in the journal after which the message is still there."""

FINISHED_OTHERWISE = frozenset({"duplicate"})
"""An entry about another element with the same id."""


async def ended(client: Client, settings: Settings, provider: str, message_id: str) -> list[Found]:
    """Return the message if the journal has its end."""
    entries = await _entries(client, settings, provider, message_id)
    last = next((entry for entry in reversed(entries) if entry.outcome not in WAITS_AGAIN), None)
    if last is None:
        return []
    return [
        Found(
            provider=provider,
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


async def attempts_of(
    client: Client, settings: Settings, provider: str, message_id: str
) -> list[FoundAttempt]:
    """Return the attempts to send a message, the oldest first."""
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


def of_present_life(attempts: Sequence[FoundAttempt]) -> list[FoundAttempt]:
    """Leave out the attempts of an earlier message with the same id, which has ended."""
    ends = [
        index
        for index, one in enumerate(attempts)
        if one.outcome not in WAITS_AGAIN and one.outcome not in FINISHED_OTHERWISE
    ]
    return list(attempts[ends[-1] + 1 :] if ends else attempts)


def with_history(attempts: Sequence[FoundAttempt], history: Sequence[Attempt]) -> list[FoundAttempt]:
    """Add the attempts that the message itself remembers, and that the journal does not have (yet)."""
    known = {(round(one.at), one.status) for one in attempts}
    more = [
        FoundAttempt(one.at, "retry", one.status, one.reason, 0.0, one.worker)
        for one in history
        if not {(round(one.at) + shift, one.status) for shift in (-1, 0, 1)} & known
    ]
    return sorted([*attempts, *more], key=lambda one: one.at)
