"""All of a lane in Redis as plain data, and the rules that hold for it at every moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from relay.redis_client.client import Client
from relay.store.keys import LaneKeys

LEVELS = ("high", "normal", "low")
_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True)
class LaneSnapshot:
    """The keys of a lane that contain the places of its messages and the state of its groups."""

    at: int
    """Unix milliseconds by Redis's clock."""
    bodies: dict[str, bytes] = field(repr=False)
    ready: tuple[list[str], ...]
    """Tickets without a group, for each priority."""
    waiting: tuple[dict[str, list[str]], ...]
    """For each priority: the tickets of each group, the oldest first."""
    rotation: tuple[dict[str, float], ...]
    """For each priority: the turn of each group."""
    groups: dict[str, dict[str, Any]]
    groups_due: dict[str, float]
    in_flight: dict[str, int]
    """For each group: messages in flight, as the lane counts them."""
    held: dict[str, dict[str, str]]
    """For each worker: its tickets, each with the group whose place it takes."""
    due: dict[str, float]
    blocked: list[str]
    suspects: set[str]
    fans: dict[str, dict[str, Any]]
    fan_outs: list[str]
    state: str
    """Why the lane itself holds; empty if it does not."""

    def places(self) -> Counter[str]:
        """The number of times that each ticket waits, is delayed, blocked, suspect or in flight.

        Entries without a body are leftovers of messages that have ended; claims skip them.
        """
        found = Counter(ticket for level in self.ready for ticket in level)
        found.update(ticket for level in self.waiting for tickets in level.values() for ticket in tickets)
        found.update([*self.due, *self.blocked, *self.suspects, *self.fan_outs])
        found.update(ticket for tickets in self.held.values() for ticket in tickets)
        return Counter({ticket: number for ticket, number in found.items() if ticket in self.bodies})

    def problems(self) -> Iterator[str]:
        """Every rule that is broken."""
        places = self.places()
        for ticket in self.bodies:
            # A fan-out whose targets are all messages waits in them.
            expected = int(ticket not in self.fans or self.fans[ticket]["rest"] > 0)
            if places[ticket] != expected:
                yield f"message {ticket} is in {places[ticket]} places"
        held = Counter(group for tickets in self.held.values() for group in tickets.values() if group)
        if held != Counter(self.in_flight):
            yield f"in flight by group: {self.in_flight}, but workers hold {dict(held)}"
        for level, waiting in enumerate(self.waiting):
            for group, tickets in waiting.items():
                if any(ticket in self.bodies for ticket in tickets) and not self._will_be_served(
                    level, group
                ):
                    yield f"group {group} is stuck with {len(tickets)} {LEVELS[level]} messages"
        for group, state in self.groups.items():
            if not self._has_reason(group) and group not in self.groups_due:
                yield f"nothing will ever forget group {group}: {state}"
        for group in self.groups_due.keys() - self.groups.keys():
            yield f"group {group} is due, but nothing is known of it"

    def _has_reason(self, group: str) -> bool:
        """Return whether an operator or a later settle will change its state."""
        state = self.groups[group]
        paused = state.get("paused")
        is_paused = paused is not None and paused["till"] == 0
        is_full = bool(state.get("full")) and self.in_flight.get(group, 0) > 0
        return is_paused or is_full or "disabled" in state

    def _will_be_served(self, level: int, group: str) -> bool:
        if group in self.rotation[level]:
            return True
        state = self.groups.get(group, {})
        return bool(state.get("out")) and (self._has_reason(group) or group in self.groups_due)


async def take_snapshot(redis: Client, keys: LaneKeys, workers: tuple[str, ...], at: int) -> LaneSnapshot:
    """Read the lane, all at once."""
    part = keys.part
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hgetall(part("bodies"))
        for level in LEVELS:
            pipe.lrange(part(f"ready:{level}"), 0, -1)
            pipe.zrange(part(f"waiting:{level}"), 0, -1)
            pipe.zrange(part(f"rotation:{level}"), 0, -1, withscores=True)
            pipe.lrange(part(f"fan-outs:{level}"), 0, -1)
        pipe.hgetall(part("groups"))
        pipe.zrange(part("groups:due"), 0, -1, withscores=True)
        pipe.hgetall(part("groups:in-flight"))
        pipe.zrange(part("due"), 0, -1, withscores=True)
        pipe.zrange(part("blocked"), 0, -1)
        pipe.hkeys(part("suspects"))
        pipe.hgetall(part("fans"))
        pipe.hget(part("control"), "state")
        for worker in workers:
            pipe.hgetall(keys.inflight(worker))
        reply: list[Any] = await pipe.execute()
    bodies, rest = reply[0], reply[1:]
    by_level, rest = [rest[4 * level : 4 * level + 4] for level in range(3)], rest[12:]
    groups, groups_due, in_flight, due, blocked, suspects, fans, state, *held = rest
    return LaneSnapshot(
        at=at,
        bodies={ticket.decode(): body for ticket, body in bodies.items()},
        ready=tuple([ticket.decode() for ticket in level[0]] for level in by_level),
        waiting=tuple(_by_group(level[1]) for level in by_level),
        rotation=tuple(_scores(level[2]) for level in by_level),
        groups={name.decode(): _decode(state) for name, state in groups.items()},
        groups_due=_scores(groups_due),
        in_flight={name.decode(): abs(int(number)) for name, number in in_flight.items()},
        held={
            worker: {ticket.decode(): _group_of(lease) for ticket, lease in tickets.items()}
            for worker, tickets in zip(workers, held, strict=True)
        },
        due=_scores(due),
        blocked=[_ticket(member) for member in blocked],
        suspects={ticket.decode() for ticket in suspects},
        fans={ticket.decode(): _decode(fan) for ticket, fan in fans.items()},
        fan_outs=[ticket.decode() for level in by_level for ticket in level[3]],
        state=(state or b"").decode(),
    )


def _scores(entries: list[tuple[bytes, float]]) -> dict[str, float]:
    return {name.decode(): score for name, score in entries}


def _ticket(member: bytes) -> str:
    return str(int(member[-16:]))


def _by_group(members: list[bytes]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for member in members:
        length, _, rest = member.partition(b":")
        found.setdefault(rest[: int(length)].decode(), []).append(_ticket(member))
    return found


def _group_of(lease: bytes) -> str:
    return lease.partition(b" ")[2].decode()
