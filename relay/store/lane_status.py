"""The numbers and the state of lanes for operators: many lanes in a few round trips. Read only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict

from relay.redis_client.client import Client
from relay.store import override as overrides
from relay.store.groups import GROUP_PARTS, LEVELS, NO_GROUPS, Groups, age_of, read_groups
from relay.store.keys import LaneKeys
from relay.store.lane_settings import LaneSettings
from relay.store.override import Override
from relay.store.pause import CONTROL_FIELDS, Pause
from relay.store.reading import Command, in_steps, read_rows
from relay.store.recent import NOTHING_RECENT, Recent
from relay.store.states import State


class Totals(TypedDict):
    """The counters of a lane since its beginning."""

    accepted: int
    delivered: int
    failed: int
    retried: int
    throttled: int
    unregistered: int
    expired: int
    duplicate: int
    collapsed: int
    dropped: int
    cancelled: int
    fanned_out: int
    revived: int
    malformed: int
    dead_trimmed: int


TOTALS: Final = tuple(Totals.__annotations__)

TOGETHER = 100
"""Lanes that are read in one pipeline, so that no answer is large."""

HEADS = 5
"""Tickets at the head of a list that are checked for a message, because some may have ended."""

FURTHER_HEADS = 500
"""The same if all of them have ended."""


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """The numbers of one lane. Totals count from the creation of the lane.

    `waiting` includes the targets of fan-outs. `error` and `configured`: see `QueueStatus`.
    """

    provider: str
    state: str
    why: str
    hold: float
    waiting: int
    delayed: int
    in_flight: int
    dead: int
    outbox: int
    """Receipts and feedback that are not forwarded yet."""
    outbox_lost: int
    """Receipts and feedback that could not be forwarded, since the creation of the lane."""
    totals: Mapping[str, int]
    pause: Pause | None = None
    suspects: int = 0
    """The waiting messages that the provider refused, for a reason that is not known yet."""
    groups: Groups = NO_GROUPS
    error: str = ""
    configured: bool = True
    served: bool = True
    """Whether a living worker serves the lane."""
    settings: LaneSettings | None = None
    """The settings in force. None: no worker has published any, and the file does not name the lane."""
    oldest_seconds: float | None = None
    """Time since the oldest message that could be sent now entered the lane. None if there is none."""
    override: Override | None = None
    """The rates of an operator, instead of those of the settings."""

    recent: Recent = NOTHING_RECENT

    @property
    def is_empty(self) -> bool:
        return not (self.error or self.waiting or self.delayed or self.in_flight or self.dead or self.outbox)

    @property
    def backlog(self) -> int:
        """Messages that will still be sent."""
        return self.waiting + self.delayed + self.in_flight

    @property
    def empty_in_seconds(self) -> float | None:
        """Time until no message waits or is in flight at the present rate. None: never at this rate."""
        messages = self.waiting + self.in_flight
        if not messages:
            return 0.0
        held = self.state not in (State.RUNNING, State.TRIAL) and not self.hold
        if held or self.recent.drained_per_second <= 0:
            return None
        return self.hold + messages / self.recent.drained_per_second

    @property
    def per_second(self) -> float:
        """The lowest of the rates in force, in messages per second; 0: unlimited or unknown."""
        if self.override is not None:
            return self.override.per_second
        return 0.0 if self.settings is None else self.settings.per_second

    @property
    def rate(self) -> str:
        """The rates in force, for people; empty if they are unknown."""
        override = "" if self.override is None else self.override.text
        return override if self.settings is None else self.settings.rate_text(override)


async def read_lane(
    client: Client, prefix: str, provider: str, workers: Sequence[str], now: float
) -> LaneStatus:
    """Read the state and the numbers of a lane. `now` is Redis's clock in Unix seconds. Raises StoreError."""
    (lane,) = await read_lanes(client, prefix, {provider: workers}, now)
    return lane


async def read_lanes(
    client: Client, prefix: str, workers: Mapping[str, Sequence[str]], now: float
) -> list[LaneStatus]:
    """Read many lanes, by provider with the workers that may hold messages of it. Raises StoreError."""
    keys = {provider: LaneKeys.of(prefix, provider) for provider in workers}
    replies = await _read_each(client, {name: list(_numbers(keys[name], workers[name])) for name in workers})
    lanes = {name: _lane(name, *reply, now=now) async for name, reply in in_steps(replies.items())}
    grouped = [name for name, (reply, _) in replies.items() if reply[GROUPED]]
    groups = dict(
        zip(
            grouped,
            await asyncio.gather(*(read_groups(client, keys[name], now) for name in grouped)),
            strict=True,
        )
    )
    oldest = await _oldest(client, {name: keys[name] for name, lane in lanes.items() if lane.backlog}, now)
    return [_with_groups(lane, groups.get(name, NO_GROUPS), oldest.get(name)) for name, lane in lanes.items()]


GROUPED = 6
"""The place of the reply that shows whether the lane has groups."""

_FIELDS = (*CONTROL_FIELDS, "state", "hold", "reason", overrides.FIELD, "unexpanded", "outbox_lost", *TOTALS)


def _numbers(keys: LaneKeys, workers: Iterable[str]) -> Iterable[Command]:
    yield ("HMGET", keys.part("control"), *_FIELDS)
    yield ("HLEN", keys.part("bodies"))
    yield ("ZCARD", keys.part("due"))
    yield ("XLEN", keys.part("dead"))
    yield ("XLEN", keys.part("outbox"))
    yield ("HLEN", keys.part("suspects"))
    yield ("EXISTS", *(keys.part(part) for part in GROUP_PARTS))
    yield from (("HLEN", keys.inflight(worker)) for worker in workers)


def _lane(provider: str, replies: Sequence[Any], error: str, now: float) -> LaneStatus:
    control, bodies, delayed, dead, outbox, suspects, _, *inflight = replies
    texts = [None if value is None else value.decode() for value in control or [None] * len(_FIELDS)]
    pause = Pause.of_control(*texts[: len(CONTROL_FIELDS)])
    state, hold, why, override, unexpanded, outbox_lost, *totals = texts[len(CONTROL_FIELDS) :]
    left = max(0.0, int(hold or 0) / 1000 - now)
    if pause is not None and not pause.holds(now):
        pause = None  # the next claim forgets it
    if pause is not None:
        state, why, left = State.PAUSED.value, str(pause), pause.left(now)
    elif state == State.THROTTLED and not left:
        state = why = None
    in_flight = sum(number or 0 for number in inflight)
    return LaneStatus(
        provider=provider,
        state="unknown" if control is None else state or State.RUNNING.value,
        why=why or "",
        hold=left,
        waiting=max(0, (bodies or 0) - (delayed or 0) - in_flight) + int(unexpanded or 0),
        delayed=delayed or 0,
        in_flight=in_flight,
        dead=dead or 0,
        outbox=outbox or 0,
        outbox_lost=int(outbox_lost or 0),
        totals={name: int(total or 0) for name, total in zip(TOTALS, totals, strict=True)},
        pause=pause,
        override=overrides.of_control(override, now),
        suspects=suspects or 0,
        error=error,
    )


def _with_groups(lane: LaneStatus, groups: Groups, oldest: float | None) -> LaneStatus:
    ages = [age for age in (oldest, *(group.oldest for group in groups.found)) if age is not None]
    return replace(
        lane,
        groups=groups,
        oldest_seconds=max(ages, default=None),
        error="; ".join(filter(None, (lane.error, groups.error))),
    )


async def _oldest(client: Client, keys: Mapping[str, LaneKeys], now: float) -> dict[str, float]:
    """Return the age of the oldest message without a group, for lanes that have one that may go now."""
    found: dict[str, float] = {}
    for heads in (HEADS, FURTHER_HEADS):
        left = {name: key for name, key in keys.items() if name not in found}
        replies = await _read_each(
            client, {name: list(_heads(key, heads, now)) for name, key in left.items()}
        )
        tickets = {name: _tickets(reply) for name, (reply, _) in replies.items()}
        tickets = {name: each for name, each in tickets.items() if each}
        commands = {
            name: [("HEXISTS", keys[name].part("bodies"), ticket) for ticket in each]
            for name, each in tickets.items()
        }
        for name, (exist, _) in (await _read_each(client, commands)).items():
            living = [ticket for ticket, there in zip(tickets[name], exist, strict=True) if there]
            if living:
                found[name] = age_of(living[0], now)
        keys = {name: keys[name] for name in tickets if name not in found}
    return found


def _heads(keys: LaneKeys, number: int, now: float) -> Iterable[Command]:
    """Both ends of the lists, because returned messages go to the end that is sent first."""
    for level in LEVELS:
        yield ("LRANGE", keys.part(f"ready:{level}"), 0, number - 1)
        yield ("LRANGE", keys.part(f"ready:{level}"), -number, -1)
        yield ("LRANGE", keys.part(f"fan-outs:{level}"), 0, 0)
    yield ("ZRANGEBYSCORE", keys.part("due"), "-inf", round(now * 1000), "LIMIT", 0, number)
    yield ("HKEYS", keys.part("suspects"))


def _tickets(replies: Iterable[Any]) -> list[int]:
    """Return the tickets in lists of them, the oldest first."""
    found = {int(ticket) for reply in replies for ticket in reply or () if ticket.isdigit()}
    return sorted(found)


async def _read_each(
    client: Client, commands: Mapping[str, Sequence[Command]]
) -> dict[str, tuple[Sequence[Any], str]]:
    """Return the replies of each lane's commands, with one line about its refusals."""
    names, found = list(commands), list[tuple[Sequence[Any], str]]()
    for first in range(0, len(names), TOGETHER):
        some = names[first : first + TOGETHER]
        found += await read_rows(client, [commands[name] for name in some])
    return dict(zip(names, found, strict=True))
