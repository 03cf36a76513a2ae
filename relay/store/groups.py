"""The groups of a lane for operators: backlog and state of each. Read only.

The work is bounded for any number of groups. Up to `GroupTuning.names` groups are all read. If there are
more, only these are read: the groups of a sample of waiting messages, which finds the large ones; the groups
with the longest holds; and some of the groups with messages in flight, a state or used tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import StoreError
from relay.redis_client.client import Client, is_refusal
from relay.store.group_state import NEUTRAL, Entry, decode, standing
from relay.store.keys import LaneKeys
from relay.store.reading import read_all
from relay.store.scripting import script
from relay.store.states import GroupState

LEVELS = ("high", "normal", "low")

GROUP_PARTS = ("groups", "groups:in-flight", *(f"rotation:{level}" for level in LEVELS))
"""The parts of a lane of which at least one exists if groups have messages or a state."""

TICKETS_A_MILLISECOND = 800
"""Tickets follow the clock: 200 numbers per millisecond (parts/numbers.lua), and four tickets per number."""

LONGEST_NAME = 48
"""Characters of a group's name in a table or a line."""

FAILING = (GroupState.DISABLED, GroupState.OPEN)


@dataclass(frozen=True, slots=True)
class GroupTuning:
    """The amount of data that is read of one lane."""

    names: int = 1000
    """Maximum number of groups that are all read. If there are more, the maximum from each source."""
    sample: int = 500
    """Waiting messages of each priority whose groups are read if there are more groups."""
    held: int = 100
    """Number of groups with the longest holds."""
    chunk: int = 25
    """Groups in one call of the script, so that it keeps Redis for a fraction of a millisecond only."""
    states: int = 500
    """Groups whose states are read in one round trip."""


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group, as operators see it. Durations are in seconds."""

    group: str
    """The name as the application wrote it: pass it through `printable` before you show it."""
    state: GroupState
    why: str
    hold: float
    """The time until it may send again; 0 if it may, or if no end is known."""
    waiting: int
    in_flight: int
    oldest: float | None
    """The age of the oldest waiting message; None if none waits."""
    failures: int
    """Failed deliveries in a row."""

    @property
    def messages(self) -> int:
        return self.waiting + self.in_flight

    @property
    def is_notable(self) -> bool:
        """Whether it has messages, fails, or is held for another reason than its rate."""
        match self.state:
            case GroupState.LIMITED:
                return self.messages > 0
            case GroupState.RUNNING:
                return bool(self.messages or self.failures or self.why)
            case _:
                return True


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of a lane. `found` begins with the largest."""

    total: int = 0
    """Groups that have messages; an estimate unless `complete`."""
    found: Sequence[GroupStatus] = ()
    complete: bool = True
    """Whether `found` has all groups."""
    error: str = ""
    """The reason if something could not be read."""

    def failing(self) -> list[GroupStatus]:
        """Return the failing groups: disabled ones first, then by their failures in a row."""
        failing = [group for group in self.found if group.failures or group.state in FAILING]
        return sorted(failing, key=lambda group: (group.state != GroupState.DISABLED, -group.failures))

    def in_state(self, state: GroupState) -> list[GroupStatus]:
        """Return the groups in this state."""
        return [group for group in self.found if group.state == state]


NO_GROUPS = Groups()


@dataclass(frozen=True, slots=True)
class _Known:
    """Names of groups, and the values of the hashes `groups` and `groups:in-flight` for all of them."""

    names: Sequence[bytes]
    entries: Mapping[bytes, Entry]
    in_flight: Mapping[bytes, int]
    scanned: frozenset[bytes] = frozenset()
    """With a sample: the names from the hash `groups`."""


async def read_groups(
    client: Client, keys: LaneKeys, now: float, tuning: GroupTuning = GroupTuning()
) -> Groups:
    """Read the groups of a lane. `now` is Redis's clock in Unix seconds. Raises StoreError."""
    try:
        remembered, in_flight, *turns = await _read(
            client,
            ("HLEN", keys.part("groups")),
            ("HLEN", keys.part("groups:in-flight")),
            *(("ZCARD", keys.part(f"rotation:{level}")) for level in LEVELS),
        )
        in_rotation = sum(turns)
        complete = max(in_rotation + remembered, in_flight) <= tuning.names
        known = await (_all(client, keys) if complete else _sample(client, keys, tuning))
        by_name = await _statuses(client, keys, known, now, tuning.chunk)
    except StoreError as error:
        if not (isinstance(error, _Refused) or is_refusal(error)):
            raise
        return Groups(error=str(error))
    found = sorted(
        (group for group in by_name.values() if group.is_notable),
        key=lambda group: (-group.messages, group.group),
    )
    total = sum(group.messages > 0 for group in found)
    if not complete:
        out = sum(known.entries[name].out and by_name[name].waiting > 0 for name in known.scanned)
        total = max(total, in_rotation + round(out * remembered / max(1, len(known.scanned))))
    return Groups(total, found, complete)


async def read_group(client: Client, keys: LaneKeys, group: str, now: float) -> GroupStatus:
    """Read one group, even if Redis has no data about it. Raises StoreError."""
    name = group.encode()
    known = await _look_up(client, keys, [name], 1)
    return (await _statuses(client, keys, known, now, 1))[name]


async def _all(client: Client, keys: LaneKeys) -> _Known:
    """Read all groups, if there are few."""
    entries, in_flight, *turns = await _read(
        client,
        ("HGETALL", keys.part("groups")),
        ("HGETALL", keys.part("groups:in-flight")),
        *(("ZRANGE", keys.part(f"rotation:{level}"), 0, -1) for level in LEVELS),
    )
    entries, in_flight = _pairs(entries), _pairs(in_flight)
    names = dict.fromkeys((*(name for turn in turns for name in turn), *entries, *in_flight))
    return _Known(
        [*names],
        {name: decode(packed) for name, packed in entries.items()},
        {name: abs(int(number)) for name, number in in_flight.items()},
    )


async def _sample(client: Client, keys: LaneKeys, tuning: GroupTuning) -> _Known:
    """Read some of many groups: most likely the largest, and those with the longest holds."""
    (_, entries), (_, in_flight), held, *samples = await _read(
        client,
        ("HSCAN", keys.part("groups"), 0, "COUNT", tuning.names),
        ("HSCAN", keys.part("groups:in-flight"), 0, "COUNT", tuning.names),
        ("ZRANGE", keys.part("groups:due"), 0, tuning.held - 1, "REV"),
        *(("ZRANDMEMBER", keys.part(f"waiting:{level}"), tuning.sample) for level in LEVELS),
    )
    scanned = [*_pairs(entries)][: tuning.names]
    flying = [*_pairs(in_flight)][: tuning.names]
    waiting = (_group_of(member) for sample in samples for member in sample)
    names = [*dict.fromkeys((*waiting, *held, *flying, *scanned))]
    return await _look_up(client, keys, names, tuning.states, frozenset(scanned))


async def _look_up(
    client: Client,
    keys: LaneKeys,
    names: Sequence[bytes],
    chunk: int,
    scanned: frozenset[bytes] = frozenset(),
) -> _Known:
    entries: dict[bytes, Entry] = {}
    in_flight: dict[bytes, int] = {}
    for first in range(0, len(names), chunk):
        some = names[first : first + chunk]
        packed, numbers = await _read(
            client,
            ("HMGET", keys.part("groups"), *some),
            ("HMGET", keys.part("groups:in-flight"), *some),
        )
        entries.update(zip(some, map(decode, packed), strict=True))
        in_flight.update((name, abs(int(number or 0))) for name, number in zip(some, numbers, strict=True))
    return _Known(names, entries, in_flight, scanned)


async def _statuses(
    client: Client, keys: LaneKeys, known: _Known, now: float, chunk: int
) -> dict[bytes, GroupStatus]:
    waiting = [keys.part(f"waiting:{level}") for level in LEVELS]
    backlog = script("group_backlog")
    found = {}
    for first in range(0, len(known.names), chunk):
        names = known.names[first : first + chunk]
        reply = await backlog.run(client, waiting, *names)
        for name, messages, oldest in zip(names, reply[::2], reply[1::2], strict=True):
            entry, in_flight = known.entries.get(name, NEUTRAL), known.in_flight.get(name, 0)
            stands = standing(entry, now, in_flight)
            found[name] = GroupStatus(
                name.decode(errors="backslashreplace"),
                stands.state,
                stands.why,
                stands.hold,
                messages,
                in_flight,
                age_of(int(oldest), now) if oldest else None,
                round(entry.failures),
            )
    return found


def age_of(ticket: int, now: float) -> float:
    """Return the seconds since a message with this ticket entered its lane."""
    return max(0.0, now - ticket / TICKETS_A_MILLISECOND / 1000)


def _group_of(member: bytes) -> bytes:
    """Return the group in a member of `waiting`: `length:group:ticket`."""
    length, _, rest = member.partition(b":")
    return rest[: int(length)]


def _pairs(reply: object) -> dict[bytes, bytes]:
    """Return fields and values of a hash, in either form that the client returns."""
    if isinstance(reply, dict):
        return reply
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))


class _Refused(StoreError):
    """Redis refuses to read a key of groups."""


async def _read(client: Client, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
    replies, refusals = await read_all(client, *commands)
    if refusals:
        raise _Refused(refusals)
    return replies
