"""Pause, probe and resume a lane or its groups, cancel a message or send it next, in the whole fleet.

Each action is in the audit log, with its author and reason.

Every function raises StoreError, and UsageError for an order that cannot be carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from relay.errors import UsageError
from relay.operations.providers import require_provider
from relay.redis_client.client import Client
from relay.settings.durations import parse_duration
from relay.settings.formatting import near_miss
from relay.settings.models import Settings
from relay.store import audit, lookup
from relay.store.audit import AuditEntry
from relay.store.fleet import Fleet
from relay.store.groups import read_group, read_groups
from relay.store.keys import LaneKeys
from relay.store.lane import Lane
from relay.store.pause import Pause
from relay.store.record import scoped
from relay.store.states import State
from relay.text import one_line, printable, quote

LONGEST_PAUSE = 3650 * 86400.0

LONGEST_GROUP = 300
"""Characters of a group's name: hosts may be longer than the names that applications choose."""

Cancellation = Literal["cancelled", "in flight", "unknown"]

STAYS: Mapping[str, str] = {
    "unknown": "it does not wait in this lane",
    "in flight": "a worker sends it already",
    "fan-out": "it has many targets, and their turns are shared with other messages",
    "suspect": "the provider refused it, and other messages are tried to find the cause",
    "blocked": "a message with its ordering key comes first",
    "scheduled": "it is scheduled for a later time",
}
"""Why a message is not sent next."""


def pause_seconds(text: str | None, option: str = "--for") -> float | None:
    """Return the length of a pause; None without an end. Raises UsageError if it is not a duration."""
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if not 0 < seconds <= LONGEST_PAUSE:
        raise UsageError(
            f"{option}: {text} is out of range: write 1s to 3650d, or leave {option} out for no end"
        )
    return seconds


def lane_of(client: Client, settings: Settings, provider: str) -> Lane:
    """Return a lane for an operator's actions, which claims nothing."""
    return Lane(client, settings.redis.prefix, provider, settings.providers[provider], worker="operator")


async def pause(
    client: Client, settings: Settings, provider: str, *, seconds: float | None, because: str, who: str
) -> None:
    """Stop sending to a provider, for some seconds or until `resume`."""
    require_provider(settings, provider)
    fleet = Fleet(client, settings.redis.prefix)
    order = _pause(seconds, because, who, await fleet.now())
    await lane_of(client, settings, provider).pause(order)
    # A pause that replaces a longer one ends earlier than workers expect.
    await fleet.wake([provider])
    await _record(client, settings, AuditEntry("pause", who, provider, why=because, until=order.until))


async def resume(client: Client, settings: Settings, provider: str, *, because: str, who: str) -> None:
    """End the pause or the hold of a provider."""
    require_provider(settings, provider)
    await lane_of(client, settings, provider).resume()
    await Fleet(client, settings.redis.prefix).wake([provider])
    await _record(client, settings, AuditEntry("resume", who, provider, why=because))


async def probe(client: Client, settings: Settings, provider: str, *, because: str, who: str) -> str:
    """Send one message of a lane that holds, now. Returns the state of the lane."""
    require_provider(settings, provider)
    match await lane_of(client, settings, provider).probe():
        case "":
            raise UsageError(f"{provider} does not hold: its messages are sent")
        case State.PAUSED:
            raise UsageError(f"{provider} is paused by an operator: `relay resume {provider}` ends that")
        case State.THROTTLED:
            raise UsageError(
                f"{provider} asked relay to wait: a message now would only make the wait longer. "
                f"`relay resume {provider}` sends immediately all the same"
            )
        case state:
            pass
    await Fleet(client, settings.redis.prefix).wake([provider])
    await _record(client, settings, AuditEntry("probe", who, provider, why=because))
    return state


async def pause_group(
    client: Client,
    settings: Settings,
    provider: str,
    group: str,
    *,
    seconds: float | None,
    because: str,
    who: str,
) -> int:
    """Pause a group; returns how many of its messages wait. An idle group can be paused in advance."""
    require_provider(settings, provider)
    _check_name(group)
    fleet = Fleet(client, settings.redis.prefix)
    now = await fleet.now()
    status = await read_group(client, LaneKeys.of(settings.redis.prefix, provider), group, now)
    if settings.providers[provider].group_rules is None and not status.is_notable:
        raise UsageError(
            f"{provider} has no groups: set `providers.{provider}.groups` in {settings.path} first"
        )
    order = _pause(seconds, because, who, now)
    await lane_of(client, settings, provider).pause_group(group, order.until, order.by, order.reason)
    await fleet.wake([provider])
    entry = AuditEntry("pause", who, provider, group, why=because, until=order.until)
    await _record(client, settings, entry)
    return status.waiting


async def resume_group(
    client: Client, settings: Settings, provider: str, group: str, *, because: str, who: str
) -> bool:
    """Resume or enable a group; returns whether it was held."""
    require_provider(settings, provider)
    _check_name(group)
    fleet = Fleet(client, settings.redis.prefix)
    now, keys = await fleet.now(), LaneKeys.of(settings.redis.prefix, provider)
    if not (await read_group(client, keys, group, now)).is_notable:
        known = [found.group for found in (await read_groups(client, keys, now)).found]
        hint = near_miss(group, known) or f"`relay status {provider}` lists the groups"
        raise UsageError(f"group {quote(group)} of {provider} has no messages and is not held; {hint}")
    was_held = await lane_of(client, settings, provider).resume_group(group)
    await fleet.wake([provider])
    await _record(client, settings, AuditEntry("resume", who, provider, group, why=because))
    return was_held


async def cancel(
    client: Client, settings: Settings, provider: str, message_id: str, *, because: str, who: str
) -> Cancellation:
    """Cancel a message that is not in flight yet: also one whose id relay has made, as `find` shows it."""
    require_provider(settings, provider)
    prefix = settings.redis.prefix
    workers = [member.info.worker for member in await Fleet(client, prefix).members()]
    lane = lane_of(client, settings, provider)
    scopes = ["", *(queue.name for queue in settings.queues if queue.scope == "queue")]
    results = [await lane.cancel(scoped(message_id, scope), workers) for scope in scopes]
    if message_id and set(results) == {"unknown"}:
        tickets = await lookup.tickets_of_id(client, prefix, provider, message_id, scopes)
        results = [await lane.cancel(message_id, workers, ticket) for ticket in tickets]
    if "cancelled" in results:
        await Fleet(client, prefix).wake([provider])  # the next message with its ordering key may go
        why = f"{message_id}: {because}" if because else message_id
        await _record(client, settings, AuditEntry("cancel", who, provider, why=why))
        return "cancelled"
    return "in flight" if "in flight" in results else "unknown"


async def send_next(
    client: Client, settings: Settings, provider: str, message_id: str, *, because: str, who: str
) -> int:
    """Move a waiting message to the head of its lane, or of its group if the lane has groups.

    It gets the priority `high`. Rate, pauses, holds and the turns of groups apply as before; only the wait
    before its next attempt ends. Returns how many messages of its group still go before it. Raises
    UsageError if it stays.
    """
    before = await _send_next(client, settings, provider, message_id, "move")
    await Fleet(client, settings.redis.prefix).wake([provider])
    why = f"{message_id}: {because}" if because else message_id
    await _record(client, settings, AuditEntry("send-next", who, provider, count=len(before), why=why))
    return max(before)


async def count_before_next(client: Client, settings: Settings, provider: str, message_id: str) -> int:
    """Return the result of `send_next` without changing anything. Raises UsageError likewise."""
    return max(await _send_next(client, settings, provider, message_id, "count"))


async def _send_next(
    client: Client, settings: Settings, provider: str, message_id: str, step: Literal["move", "count"]
) -> list[int]:
    """Take the step for all messages with this id. Returns how many messages go before each."""
    require_provider(settings, provider)
    prefix = settings.redis.prefix
    workers = [member.info.worker for member in await Fleet(client, prefix).members()]
    scopes = ["", *(queue.name for queue in settings.queues if queue.scope == "queue")]
    tickets = await lookup.tickets_of_id(client, prefix, provider, message_id, scopes)
    lane, stays = lane_of(client, settings, provider), "unknown"
    before: list[int] = []
    for ticket in tickets:
        located = await lookup.locate(client, prefix, provider, ticket, workers)
        if located is not None and located.message.id == message_id:
            result, number = await lane.send_next(ticket, workers, step)
            if result in ("moved", "movable"):
                before.append(number)
            else:
                stays = result
    if not before:
        raise UsageError(f"{quote(message_id)} is not sent next: {STAYS[stays]}")
    return before


def sent_next(provider: str, message_id: str, before: int) -> str:
    """Return the effect of `send_next`, or of `count_before_next`, in one line."""
    others = f", after {before:,} of its group with the priority high" if before else ""
    return f"{printable(message_id)} is next at {provider}{others}"


async def _record(client: Client, settings: Settings, entry: AuditEntry) -> None:
    await audit.record(client, settings.redis.prefix, entry)


def _pause(seconds: float | None, because: str, who: str, now: float) -> Pause:
    """Return a pause that begins now by Redis's clock."""
    return Pause(0.0 if seconds is None else now + seconds, now, who, one_line(because))


def _check_name(group: str) -> None:
    if not 0 < len(group) <= LONGEST_GROUP:
        raise UsageError(f"--group: a name has 1 to {LONGEST_GROUP} characters, this one has {len(group)}")
