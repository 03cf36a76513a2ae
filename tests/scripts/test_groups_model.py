"""Groups of a lane under arbitrary interleavings: turns are always fair, and limits always hold.

Several workers enqueue, claim, expand fan-outs, settle and crash, while operators pause and resume, cancel,
change the limits, and set Redis's clock forward and back. The state in Redis is checked after each step.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.message import PRIORITIES, Message
from relay.message.fan_out import FanOut, split
from relay.redis_client.connect import open_client
from relay.settings.options import ProviderOptions
from relay.settings.values import parse_rate
from relay.store.claims import Claim, Expansion
from relay.store.codec import Settled
from relay.store.lane import Lane
from relay.store.record import has_header, unpack
from relay.store.scripting import script
from relay.store.settlement import (
    DeadLettered,
    Delayed,
    DeliveredHeaderless,
    DeliveredOne,
    DeliveredTarget,
    GroupHeld,
    Overdue,
    Refused,
    Released,
    RetryLater,
    Settlement,
    TargetGone,
)
from relay.store.states import State
from testing.builders import plain_message
from testing.clock import set_clock, settable_clock
from testing.lane_snapshot import LEVELS, LaneSnapshot, take_snapshot
from testing.redis_server import RedisServer
from testing.streams import entries_of

WORKERS = ("w1", "w2", "w3")
GROUPS = ("a", "b", "c", "größe:1")
CHUNK = 2
EPSILON = 1e-3  # messages: floating point
LONGEST_WAIT = 11.0  # seconds: of all delays, holds and pauses here
FAR = 7 * 86400.0  # seconds: longer than anything is remembered of a group
KINDS = (
    "delivered",
    "delivered",
    "delivered",
    "retry",
    "failed",
    "dead",
    "rejected",
    "gone",
    "expired",
    "released",
)


@dataclass(eq=False)
class Known:
    """One message that the lane accepted."""

    text: str
    group: str
    level: int
    has_receipt: bool
    holder: str = ""
    claim: Claim | None = None
    ended: bool = False
    parent: Known | None = None
    targets: int = 0
    delivered: int = 0
    """Of a fan-out: its targets that were delivered."""

    @property
    def is_part(self) -> bool:
        """Return whether it is a target of a fan-out."""
        return self.parent is not None


class GroupMachine(RuleBasedStateMachine):
    """`url` is set by the test."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.stack.enter_context(settable_clock())
        self.redis = open_client(self.url)
        self.stack.callback(lambda: self.run(self.redis.aclose()))
        self.numbers = itertools.count()
        self.known: dict[str, Known] = {}
        self.texts: dict[str, str] = {}
        """By ticket."""
        self.last_snapshot: LaneSnapshot | None = None
        self.expansions: list[tuple[str, Expansion]] = []
        self.receipts: Counter[str] = Counter()
        self.last_entry = "-"
        self.micros = 1_000_000_000_000_000
        self.latest = self.clock
        self.elapsed = 0.0
        self.lane_handed: list[tuple[float, int]] = []
        self.handed: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.throttled: set[int] = set()
        """Tickets that were throttled in their group: others go before them."""
        self.owed: dict[tuple[int, str], Counter[str]] = {}
        """For each priority and group that may send: the number of turns of others while it waited."""

    def run(self, coroutine: Any) -> Any:
        self.last_snapshot = None
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.stack.close()

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.run(self.redis.execute_command("FLUSHALL"))
        self.set_clock()
        self.order = data.draw(st.sampled_from(["fifo", "fifo", "lifo"]))
        self.lane_rate = data.draw(st.sampled_from([None, None, None, "20/s"]))
        self.lane_failures = data.draw(st.sampled_from([10_000, 10_000, 3]))
        # Whether limits and disabled groups may end messages that wait.
        self.ends_waiting = data.draw(st.booleans())
        self.change_rules(data)

    def change_rules(self, data: st.DataObject) -> None:
        rate = data.draw(st.sampled_from([None, None, "1/s", "7/s"]))
        groups = {
            "by": "message",
            "rate": (parse_rate(rate),) if rate else (),
            "burst": data.draw(st.sampled_from([None, 1, 5])),
            "concurrency": data.draw(st.sampled_from([0, 1, 3, 16])),
            "breaker": {"failures": data.draw(st.sampled_from([2, 1000])), "cooldown": 2.0, "window": 30.0},
            "disable_after": data.draw(st.sampled_from([0.0, 10.0])) if self.ends_waiting else 5 * 86400.0,
            "max_backlog": data.draw(st.sampled_from([None, 3])) if self.ends_waiting else None,
        }
        self.options = ProviderOptions(
            type="test",
            rate=(parse_rate(self.lane_rate),) if self.lane_rate else (),
            order=self.order,
            breaker={"failures": self.lane_failures, "window": 30.0, "cooldown": 2.0},
            overflow=data.draw(st.sampled_from(["drop_oldest", "drop_newest"])),
            groups=data.draw(st.sampled_from([groups, groups, groups, groups, False])),
        )
        self.lanes = {name: Lane(self.redis, "relay", "test", self.options, name) for name in WORKERS}
        # A bucket of another size is another limit.
        self.handed.clear()

    @property
    def has_groups(self) -> bool:
        return self.options.groups is not None

    # The clock

    @property
    def clock(self) -> float:
        """Unix seconds; always a whole millisecond, as the scripts count."""
        return self.micros / 1_000_000

    def set_clock(self) -> None:
        self.run(set_clock(self.redis, *divmod(self.micros, 1_000_000)))

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.3, 1.0, 4.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.micros += round(seconds * 1_000_000)
        self.latest = max(self.latest, self.clock)
        self.elapsed += seconds
        self.set_clock()

    @rule(seconds=st.sampled_from([0.01, 2.0, 100.0]))
    def clock_is_set_back(self, seconds: float) -> None:
        self.micros -= round(seconds * 1_000_000)
        self.set_clock()

    # The state of the model

    def pending(self) -> list[Known]:
        return [known for known in self.known.values() if not known.ended]

    def held_by(self, worker: str) -> list[Known]:
        return [known for known in self.pending() if known.holder == worker]

    def snapshot(self) -> LaneSnapshot:
        if self.last_snapshot is None:
            keys = self.lanes["w1"].keys
            taken = take_snapshot(self.redis, keys, WORKERS, self.micros // 1000)
            self.last_snapshot = self.runner.run(taken)
        return self.last_snapshot

    def read_receipts(self) -> None:
        start = self.last_entry if self.last_entry == "-" else f"({self.last_entry}"
        outbox = self.lanes["w1"].keys.part("outbox")
        for entry, fields in self.run(entries_of(self.redis, outbox, min=start)):
            self.last_entry = entry.decode()
            letter = msgspec.msgpack.decode(fields[b"letter"])
            if letter[0] != "receipt":
                continue
            text = letter[1].removeprefix("r:")
            self.receipts[text] += 1
            known = self.known.get(text)
            if known is not None:
                assert known.has_receipt, "a receipt that nobody asked for"
                known.ended, known.holder = True, ""
                ended = letter[7] if len(letter) > 7 else None
                if ended:
                    self.check_fan_out(known, ended)
                else:
                    assert not known.targets or letter[3] in {"duplicate", "collapsed", "dropped"}

    def check_fan_out(self, known: Known, ended: dict[str, int]) -> None:
        assert sum(ended.values()) == known.targets, "targets are lost or doubled"
        assert ended.get("delivered", 0) == known.delivered, "deliveries are lost or doubled"

    # Applications

    @rule(
        plan=st.lists(
            st.tuples(
                st.sampled_from(PRIORITIES),
                st.sampled_from([*GROUPS, "a", "a", ""]),
                st.sampled_from(["", "", "", "", "id-1"]),
                st.sampled_from(["", "", "", "", "k1"]),
                st.sampled_from(["", "", "", "", "c1"]),
                st.sampled_from([0, 0, 0, 0, 0, 5]),
                st.sampled_from([0, 0, 0, 0, 0, 3]),
                st.sampled_from([0, 0, 0, 0, 0, 0, 3]),
                st.booleans(),
            ),
            min_size=1,
            max_size=8,
        )
    )
    def enqueue(self, plan: list[tuple[str, str, str, str, str, int, int, int, bool]]) -> None:
        items: list[Message | FanOut] = []
        for priority, group, message_id, key, collapse, ttl, delay, targets, receipted in plan:
            text = f"m{next(self.numbers)}"
            # A message that may end unseen has a receipt.
            special = message_id or key or collapse or ttl or delay or targets
            silent = not (special or receipted or self.ends_waiting)
            known = Known(text, group, PRIORITIES.index(priority), has_receipt=not silent, targets=targets)
            self.known[text] = known
            message = plain_message(
                text,
                priority=priority,
                expires_at=self.clock + ttl if ttl else 0.0,
                deliver_at=self.clock + delay if delay else 0.0,
                ordering_key=key,
                collapse_key=collapse,
                group=group,
                reply_to="" if silent else f"r:{text}",
            )
            if message_id:
                message = msgspec.structs.replace(message, id=message_id, named=True)
            if targets:
                payload = b'{"text":"%s","targets":%s}' % (
                    text.encode(),
                    msgspec.json.encode([f"{text}#{index}" for index in range(targets)]),
                )
                items.append(split(msgspec.structs.replace(message, payload_json=payload), "to", CHUNK))
            else:
                items.append(message)
        self.run(self.lanes["w1"].enqueue(items))
        self.read_receipts()

    @rule(message_id=st.just("id-1"))
    def cancel(self, message_id: str) -> None:
        self.run(self.lanes["w1"].cancel(message_id, WORKERS))
        self.read_receipts()

    # Workers

    @rule(worker=st.sampled_from(WORKERS), wanted=st.integers(1, 12), shared=st.sampled_from([0, 0, 6]))
    def claim(self, worker: str, wanted: int, shared: int = 0) -> None:
        before = self.snapshot()
        reply = self.run(self.lanes[worker].claim(wanted, shared))
        self.read_receipts()
        after = self.snapshot()
        assert len(reply.claims) <= wanted
        for claim in reply.claims:
            self.take(worker, claim)
        self.expansions += [(worker, expansion) for expansion in reply.expansions]
        # Messages that came while the lane had no groups, or have none, are sent in addition to those of
        # groups.
        served = Counter(after.held[worker][claim.ticket] for claim in reply.claims)
        self.lane_handed.append((self.elapsed, len(reply.claims)))
        if self.has_groups:
            for group, number in served.items():
                self.handed[group].append((self.elapsed, number))
            self.check_concurrency(served, after)
        self.check_order(before, after, reply.claims)
        if shared:
            self.owed.clear()  # other groups precede those without an answer
        else:
            self.check_turns(before, after, reply.claims)

    def known_of(self, claim: Claim) -> Known:
        payload = claim.message.payload
        return self.known[payload.get("to", payload["text"])]

    def take(self, worker: str, claim: Claim) -> None:
        known = self.known_of(claim)
        assert not known.ended, "a message came back after its end"
        assert not known.holder, "a message is in two hands"
        assert claim.message.group == known.group
        known.holder, known.claim = worker, claim

    def check_concurrency(self, served: Counter[str], after: LaneSnapshot) -> None:
        assert self.options.groups is not None
        most = self.options.groups.concurrency
        if not most:
            return
        for group in filter(None, served):
            assert after.in_flight[group] <= most, f"group {group} has {after.in_flight[group]} in flight"

    def check_order(self, before: LaneSnapshot, after: LaneSnapshot, claims: Sequence[Claim]) -> None:
        """Within a group and priority the oldest go first, or with lifo the newest, except throttled ones."""
        for level, waiting in enumerate(before.waiting):
            for group in waiting:
                tickets = [
                    int(claim.ticket)
                    for claim in claims
                    if claim.ticket in waiting[group]
                    and int(claim.ticket) % 4 == level
                    and int(claim.ticket) not in self.throttled
                ]
                assert tickets == sorted(tickets, reverse=self.order == "lifo"), "a group is out of order"
                left = [
                    int(ticket)
                    for ticket in after.waiting[level].get(group, ())
                    if ticket in waiting[group] and int(ticket) not in self.throttled
                ]
                if tickets and left:
                    fine = max(tickets) < min(left) if self.order == "fifo" else min(tickets) > max(left)
                    assert fine, "a group is out of order"

    def check_turns(self, before: LaneSnapshot, after: LaneSnapshot, claims: Sequence[Claim]) -> None:
        """Nobody is served twice while a group that may send waits."""
        if before.state or after.state:
            self.owed.clear()
            return
        sent = {claim.ticket for claim in claims}
        leases = {ticket: group for held in after.held.values() for ticket, group in held.items()}
        for level in range(len(LEVELS)):
            candidates = {
                group
                for group, tickets in before.waiting[level].items()
                if group in before.rotation[level] and self.all_may_go(before, tickets)
            }
            for group in candidates:
                self.owed.setdefault((level, group), Counter())
            for group, tickets in before.waiting[level].items():
                # Its turn may also have gone to a fan-out, or to messages that had expired.
                if set(tickets) - set(after.waiting[level].get(group, ())) - sent:
                    self.owed.pop((level, group), None)
            for claim in claims:
                served = leases[claim.ticket]
                # A message that replaced an older one has that one's priority.
                if int(claim.ticket) % 4 != level or not served:
                    continue
                self.owed.pop((level, served), None)
                for (other, group), counts in self.owed.items():
                    if other == level and group in after.rotation[level]:
                        counts[served] += 1
                        assert counts[served] < 2, (
                            f"{served} was served twice while {group} waited ({LEVELS[level]}): "
                            f"{self.served(claims)}; {before}; {after}"
                        )
        self.owed = {
            (level, group): counts
            for (level, group), counts in self.owed.items()
            if group in after.rotation[level] and group in after.waiting[level]
        }

    def served(self, claims: Sequence[Claim]) -> list[str]:
        return [f"{self.known_of(claim).group}:{claim.ticket}" for claim in claims]

    def all_may_go(self, snapshot: LaneSnapshot, tickets: Sequence[str]) -> bool:
        for ticket in tickets:
            body = snapshot.bodies.get(ticket)
            if body is None:
                return False
            message = unpack(body)
            if (
                message.targets
                or message.part_of
                or (message.expires_at and message.expires_at <= self.clock)
                or message.deliver_at > self.clock
            ):
                return False
        return True

    @precondition(lambda self: self.expansions)
    @rule()
    def expand(self) -> None:
        worker, expansion = self.expansions.pop()
        done = self.run(self.lanes[worker].expand(expansion, self.group_of))
        self.read_receipts()
        if done is None:
            return
        parent = self.known[expansion.template.payload["text"]]
        number = len(msgspec.json.decode(expansion.chunk))
        for index in range(expansion.first, expansion.first + number):
            text = f"{parent.text}#{index}"
            group = GROUPS[index % len(GROUPS)]
            self.known[text] = Known(text, group, parent.level, has_receipt=False, parent=parent)

    def group_of(self, message: Message) -> str:
        """Each target has its own group."""
        return GROUPS[int(message.payload["to"].partition("#")[2]) % len(GROUPS)]

    @precondition(lambda self: any(known.holder for known in self.pending()))
    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def settle(self, data: st.DataObject, kind: str) -> None:
        held = [known for known in self.pending() if known.holder]
        worker = data.draw(st.sampled_from(sorted({known.holder for known in held})))
        mine = self.held_by(worker)
        chosen = data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=5, unique_by=id))
        self.settle_all(worker, chosen, kind)

    @precondition(lambda self: any(known.holder and known.group for known in self.pending()))
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.5, 10.0]))
    def throttle_group(self, data: st.DataObject, seconds: float) -> None:
        known = data.draw(
            st.sampled_from([known for known in self.pending() if known.holder and known.group])
        )
        assert known.claim is not None
        held = known.claim.ticket, known.claim.fencing_token
        self.throttled.add(int(known.claim.ticket))
        tries = known.claim.tries(attempts=known.claim.message.attempts, isolated=False)
        entry = GroupHeld(*held, round(seconds * 1000), tries, "429")
        self.apply(known.holder, [known], [entry])

    @precondition(lambda self: any(known.holder for known in self.pending()))
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        """By the message's fault or by ours: the lane finds out."""
        receipted = [
            known for known in self.pending() if known.holder and (known.has_receipt or known.is_part)
        ]
        if not receipted:
            return
        known = data.draw(st.sampled_from(receipted))
        claim = known.claim
        assert claim is not None
        tries = claim.tries(attempts=claim.message.attempts + 1, isolated=False)
        entry = Refused(
            *(
                claim.ticket,
                claim.fencing_token,
                "403",
                403,
                b"no",
                1,
                f"target of {known.text}",
                False,
                known.text,
            ),
            *(tries, claim.again, State.UNAUTHORISED),
        )
        self.apply(known.holder, [known], [entry])

    def settle_all(self, worker: str, chosen: Sequence[Known], kind: str) -> None:
        entries = [self.settlement(known, kind) for known in chosen]
        for known in chosen:
            if known.parent is not None and kind == "delivered":
                known.parent.delivered += 1
        self.apply(worker, chosen, entries)
        if kind in {"retry", "released", "delayed"}:
            return
        for known in chosen:
            if not known.has_receipt:
                known.ended = True
            assert known.ended, "an end without its receipt"

    def settlement(self, known: Known, kind: str) -> Settlement:
        claim = known.claim
        assert claim is not None
        tries = claim.tries(attempts=claim.message.attempts + 1, isolated=False)
        held = claim.ticket, claim.fencing_token
        match kind:
            case "delivered" if claim.part_of:
                return DeliveredTarget(*held, claim.part_of)
            case "delivered" if has_header(claim.message):
                return DeliveredOne(*held, claim.message.attempts + 1)
            case "delivered":
                return DeliveredHeaderless(*held)
            case "retry":
                return RetryLater(*held, 2000, tries, "503")
            case "delayed":
                return Delayed(*held, 1000, tries)
            case "released":
                return Released(*held, tries)
            case "failed" | "dead":
                return DeadLettered(*held, "timeout", 0, b"", 1, answered=False)
            case "rejected":
                return DeadLettered(*held, "400", 400, b"no", 1, answered=True)
            case "gone":
                return TargetGone(*held, "410", "token", 0, "id", 1, tries, again=1)
            case _:
                return Overdue(*held, 0)

    def apply(self, worker: str, chosen: Sequence[Known], entries: Sequence[Settlement]) -> None:
        reply = self.settle_first(worker, entries)
        assert (reply.settled, reply.stale) == (len(chosen), 0)
        for known in chosen:
            known.holder = ""
        self.read_receipts()
        again = self.run(self.lanes[worker].settle(entries))
        assert again.settled == 0, "a repeated settle was applied twice"

    def settle_first(self, worker: str, entries: Sequence[Settlement]) -> Settled:
        reply: Settled = self.run(self.lanes[worker].settle(entries))
        return reply

    @rule(worker=st.sampled_from(WORKERS), rescuer=st.sampled_from(WORKERS))
    def crash(self, worker: str, rescuer: str) -> None:
        self.run(self.lanes[rescuer].recover(worker))
        self.go_back(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def hand_back(self, worker: str) -> None:
        self.run(self.lanes[worker].release())
        self.go_back(worker)

    def go_back(self, worker: str) -> None:
        self.expansions = [(owner, expansion) for owner, expansion in self.expansions if owner != worker]
        self.read_receipts()
        bodies = {self.text_of(body) for body in self.snapshot().bodies.values()}
        for known in self.held_by(worker):
            known.holder = ""
            # One that killed several workers is a dead letter.
            known.ended = known.text not in bodies

    @staticmethod
    def text_of(body: bytes) -> str:
        payload = unpack(body).payload
        return str(payload.get("to", payload["text"]))

    # Operators

    @rule()
    def pause(self) -> None:
        self.run(self.lanes["w1"].pause())

    @rule()
    def resume(self) -> None:
        self.run(self.lanes["w2"].resume())
        self.read_receipts()

    @rule(group=st.sampled_from(GROUPS), seconds=st.sampled_from([None, 3.0]))
    def pause_group(self, group: str, seconds: float | None) -> None:
        until = 0.0 if seconds is None else self.clock + seconds
        self.run(self.lanes["w1"].pause_group(group, until))

    @rule(group=st.sampled_from(GROUPS))
    def resume_group(self, group: str) -> None:
        self.run(self.lanes["w1"].resume_group(group))

    @rule(data=st.data())
    def reload(self, data: st.DataObject) -> None:
        self.change_rules(data)

    # Invariants

    @invariant()
    def the_state_in_redis_makes_sense(self) -> None:
        if not hasattr(self, "lanes"):
            return
        snapshot = self.snapshot()
        problems = list(snapshot.problems())
        assert not problems, f"{problems}; {snapshot}"
        found = {ticket: self.text_of(body) for ticket, body in snapshot.bodies.items()}
        self.texts |= found
        bodies = set(found.values())
        # A fan-out has its receipt when the last of its targets ends, also after it was taken back.
        fan_outs = {self.texts[ticket] for ticket in snapshot.fans}
        for known in self.known.values():
            if known.has_receipt:
                is_over = known.text not in bodies | fan_outs
                assert self.receipts[known.text] == int(is_over), "lost or doubled"
            elif not known.is_part:
                assert known.ended == (known.text not in bodies), "lost or doubled"
        for worker in WORKERS:
            held = {known.claim.ticket for known in self.held_by(worker) if known.claim}
            held |= {expansion.ticket for owner, expansion in self.expansions if owner == worker}
            assert set(snapshot.held[worker]) == held

    @invariant()
    def the_rates_hold_in_every_window(self) -> None:
        if not hasattr(self, "lanes"):
            return
        options = self.options
        for rate, burst in zip(options.rate, options.bursts(), strict=True):
            self.check_rate("the lane", self.lane_handed, rate.per_second, burst)
        if options.groups is not None:
            for rate, burst in zip(options.groups.rate, options.groups.bursts(), strict=True):
                for group, handed in self.handed.items():
                    self.check_rate(group, handed, rate.per_second, burst)

    def check_rate(self, name: str, handed: Sequence[tuple[float, int]], rate: float, burst: int) -> None:
        for start in range(len(handed)):
            total = 0
            for at, number in handed[start:]:
                total += number
                allowed = burst + rate * (at - handed[start][0])
                assert not name or total <= allowed + EPSILON, f"{name}: more than burst + rate x time"

    def drain(self) -> None:
        """No message starves: with time and claims all are sent, and nothing is left behind."""
        if not hasattr(self, "lanes"):
            return
        for group in GROUPS:
            self.run(self.lanes["w1"].resume_group(group))
        for worker in WORKERS:
            self.hand_back(worker)
        self.resume()
        # Delays and holds that were set before the clock went back are over.
        self.time_passes(self.latest - self.clock + LONGEST_WAIT)
        for _ in range(60 + 10 * len(self.known)):
            self.time_passes(1.0)
            self.claim("w1", 50)
            self.the_state_in_redis_makes_sense()
            while self.expansions:
                self.expand()
            held = self.held_by("w1")
            if held:
                self.settle_all("w1", held, "delivered")
            elif not self.snapshot().bodies:
                break
        assert not self.snapshot().bodies, f"messages are starved: {self.snapshot()}"
        for _ in range(4):  # the states of groups expire
            self.time_passes(FAR)
            self.claim("w1", 50)
        left = {key.decode().rpartition("}:")[2] for key in self.run(self.redis.keys("relay:*"))}
        assert left <= {"control", "dead", "journal", "outbox", "seen", "groups:tried"}, (
            "something was left behind"
        )


class PlainGroupMachine(GroupMachine):
    """A lane whose claims and settles take their short ways: without rates, and with few headers besides
    those of groups and of targets."""

    used: Counter[str]
    """The number of settles of targets by the script that did them, over all examples."""

    def change_rules(self, data: st.DataObject) -> None:
        self.order, self.lane_rate, self.lane_failures, self.ends_waiting = "fifo", None, 10_000, False
        groups = {"by": "message", "concurrency": data.draw(st.sampled_from([0, 0, 3, 16]))}
        self.options = ProviderOptions(type="test", breaker={"failures": 10_000}, groups=groups)
        self.lanes = {name: Lane(self.redis, "relay", "test", self.options, name) for name in WORKERS}

    @rule(
        groups=st.lists(st.sampled_from(GROUPS), min_size=1, max_size=15),
        special=st.lists(st.sampled_from(["high", "receipt", "ordered", "delayed"]), max_size=2),
        worker=st.sampled_from(WORKERS),
        wanted=st.integers(1, 25),
        kept=st.integers(0, 5),
    )
    def serve(self, groups: list[str], special: list[str], worker: str, wanted: int, kept: int) -> None:
        """Enqueue, claim, and settle deliveries, most of them without more than a group."""
        plan = [("normal", group, "", "", "", 0, 0, 0, False) for group in groups]
        for kind in special:
            key, delay = "k1" if kind == "ordered" else "", 3 if kind == "delayed" else 0
            priority = "high" if kind == "high" else "normal"
            plan.append((priority, groups[0], "", key, "", 0, delay, 0, kind == "receipt"))
        self.enqueue(plan)
        self.claim(worker, wanted)
        self.settle_short(worker, kept)

    @rule(
        sizes=st.lists(st.integers(1, 8), min_size=1, max_size=3),
        plain=st.lists(st.sampled_from(GROUPS), max_size=3),
        key=st.sampled_from(["", "", "k1"]),
        resumed=st.booleans(),
        worker=st.sampled_from(WORKERS),
        wanted=st.integers(1, 25),
        kept=st.integers(0, 5),
    )
    def serve_fan_outs(
        self,
        sizes: list[int],
        plain: list[str],
        key: str,
        resumed: bool,
        worker: str,
        wanted: int,
        kept: int,
    ) -> None:
        """Enqueue fan-outs, expand them, and settle deliveries to their targets."""
        if resumed:
            self.resume()
        # The lane of a worker that has not met a group with a state tries the short way.
        self.lanes[worker] = Lane(self.redis, "relay", "test", self.options, worker)
        plan = [("normal", "", "", key, "", 0, 0, number, False) for number in sizes]
        self.enqueue(plan + [("normal", group, "", "", "", 0, 0, 0, False) for group in plain])
        for _ in range(6):
            self.claim(worker, wanted)
            while self.expansions:
                self.expand()
        self.settle_short(worker, kept)

    def settle_short(self, worker: str, kept: int) -> None:
        """Settle deliveries of messages whose records no script has to read, except `kept`."""
        held = [
            known
            for known in self.held_by(worker)
            if known.claim and (known.claim.headerless or known.claim.part_of)
        ]
        if held[kept:]:
            self.settle_all(worker, held[kept:], "delivered")

    def settle_first(self, worker: str, entries: Sequence[Settlement]) -> Settled:
        """Find out which script has settled targets."""
        if not any(isinstance(entry, DeliveredTarget) for entry in entries):
            return super().settle_first(worker, entries)
        self.run(self.redis.script_flush())
        reply = super().settle_first(worker, entries)
        names = ("settle_targets:groups", "settle:groups")
        ran = self.run(self.redis.script_exists(*(script(name).digest for name in names)))
        self.used["+".join(name for name, has_run in zip(names, ran, strict=True) if has_run)] += 1
        return reply


@pytest.mark.parametrize("kind", [GroupMachine, PlainGroupMachine])
def test_groups_have_fair_turns_and_their_limits_always(
    newest_redis_server: RedisServer, kind: type[GroupMachine]
) -> None:
    used = Counter[str]()
    machine = type("Machine", (kind,), {"url": newest_redis_server.url, "used": used})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("RELAY_MODEL_EXAMPLES", "40")),
            stateful_step_count=40,
            deadline=None,
            # A failing example is short enough to read; shrinking it takes minutes.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    if kind is PlainGroupMachine:
        assert used["settle_targets:groups"], "no example settles targets the short way"
