"""The lane's scripts against a model in plain Python, under arbitrary interleavings and clock steps.

Several workers enqueue, claim, expand fan-outs, settle, repeat themselves, crash and release, while
operators pause, resume, cancel and revive, and Redis's clock moves forward and back. After each step, the
rate's bound holds, no message is lost, doubled or starved, order holds where it was asked for, each end has
exactly one receipt, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec
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

from relay.message import LARGE, PRIORITIES, Message
from relay.message.fan_out import FanOut, split
from relay.redis_client.connect import open_client
from relay.redis_client.topology import is_cluster
from relay.settings.options import DestinationOptions, ProviderOptions
from relay.settings.values import parse_rate
from relay.store import dead
from relay.store.claims import Claim, Expansion, Hold
from relay.store.items import Enqueued
from relay.store.lane import POISON, Lane
from relay.store.many_lanes import ManyLanes, Part
from relay.store.queue import Queue
from relay.store.record import has_header
from relay.store.settlement import (
    DeadLettered,
    DeliveredHeaderless,
    DeliveredOne,
    DeliveredTarget,
    GroupHeld,
    LaneHeld,
    Overdue,
    Released,
    RetryLater,
    Settlement,
    TargetGone,
)
from testing.builders import a_lane, plain_message
from testing.clock import set_clock, settable_clock
from testing.streams import entries_of

WORKERS = ("w1", "w2", "w3")
EPSILON = 1e-3  # messages: the rounding error of floating point
CHUNK = 2
SETTLED = {"d": "delivered", "x": "rejected", "u": "unregistered", "e": "expired"}


@dataclass(eq=False)
class Known:
    """One message as the model sees it. `holder` has it in flight; `due` is when a retry may go."""

    text: str
    number: int
    message_id: str = ""
    ordering_key: str = ""
    collapse_key: str = ""
    priority: int = 1
    expires: float = 0.0
    deliver: float = 0.0
    due: float = 0.0
    in_another_place: bool = False
    """Whether it replaced a message that waited for a time, or a fan-out that waited for its turn."""
    destination: str = ""
    receipted: bool = False
    holder: str = ""
    claim: Claim | None = None
    crashes: int = 0
    ended: bool = False
    targets: int = 0
    expanded: int = 0
    stopped: bool = False
    parent: Known | None = None
    children: list[Known] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)


def delivered(claim: Claim) -> Settlement:
    if claim.part_of:
        return DeliveredTarget(claim.ticket, claim.fencing_token, claim.part_of)
    if has_header(claim.message):
        return DeliveredOne(claim.ticket, claim.fencing_token, claim.message.attempts + 1)
    return DeliveredHeaderless(claim.ticket, claim.fencing_token)


def rejected(claim: Claim) -> Settlement:
    return DeadLettered(claim.ticket, claim.fencing_token, "400", 400, b"no", 1, answered=True)


class LaneMachine(RuleBasedStateMachine):
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
        self.order = itertools.count()
        self.known: dict[str, Known] = {}
        self.waits_under: dict[str, Known] = {}
        self.seen: dict[str, float] = {}
        self.expansions: dict[str, list[tuple[Known, Expansion]]] = {name: [] for name in WORKERS}
        self.lost_claims: list[tuple[str, Known, Claim]] = []
        self.last_entry = "-"
        self.micros = 1_000_000_000_000_000
        self.elapsed = 0.0
        self.handed: dict[str, list[tuple[float, int]]] = {}
        self.destination_held: dict[str, float] = {}
        self.paused = False
        self.held_until = 0.0
        self.last_entries: dict[str, list[Any]] = {}
        self.large = 0
        """Each message with a multiple of this number is large; 0: none is."""

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.stack.close()

    @initialize(
        rate=st.sampled_from([None, None, "1/s", "7/s", "1000/s", "90/m"]),
        burst=st.sampled_from([None, 1, 5, 30]),
        order=st.sampled_from(["fifo", "lifo"]),
        dedup=st.sampled_from([0, 0, 30]),
        backlog=st.sampled_from([None, None, 4]),
        overflow=st.sampled_from(["drop_oldest", "drop_newest"]),
        groups=st.sampled_from(["none", "no limits", "rate_per: host"]),
    )
    def begin(
        self,
        rate: str | None,
        burst: int | None,
        order: str,
        dedup: int,
        backlog: int | None,
        overflow: str,
        groups: str,
    ) -> None:
        self.open_lanes(
            DestinationOptions(
                type="test",
                rate_per="host" if groups == "rate_per: host" else "provider",
                rate=(parse_rate(rate),) if rate else (),
                burst=burst,
                order=order,
                breaker={"failures": 10_000},
                dedup_window=float(dedup),
                max_backlog=backlog,
                overflow=overflow,
                **({"groups": False} if groups == "none" else {}),
            )
        )

    def open_lanes(self, options: ProviderOptions) -> None:
        self.options = options
        self.lanes = {name: Lane(self.redis, "relay", "test", self.options, name) for name in WORKERS}
        self.run(self.redis.execute_command("FLUSHALL"))
        self.set_clock()

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
        self.elapsed += seconds
        self.set_clock()
        for known in self.pending():
            self.note_expiry(known)

    @rule(seconds=st.sampled_from([0.01, 2.0, 100.0]))
    def clock_is_set_back(self, seconds: float) -> None:
        self.micros -= round(seconds * 1_000_000)
        self.set_clock()

    # The state of the model

    def pending(self) -> list[Known]:
        return [known for known in self.known.values() if not known.ended]

    def is_alive(self, known: Known) -> bool:
        """Return whether it has not expired, in whole milliseconds as the scripts count."""
        return not known.expires or round(known.expires * 1000) > self.micros // 1000

    def note_expiry(self, known: Known) -> None:
        """A target that was a dead letter has no receipt: from its expiry on, any script may drop it."""
        if known.parent is None and not known.receipted and not self.is_alive(known):
            known.stopped = True

    def must_go(self, known: Known) -> bool:
        """Return whether nothing keeps it from the next claim but its own time."""
        return not (known.holder or known.targets or known.ordering_key) and self.is_alive(known)

    def may_be_gone(self, known: Known) -> bool:
        """Return whether it may have ended without a receipt of its own: the target of a fan-out."""
        if known.holder:
            return False
        return known.stopped if known.parent is None else self.may_have_stopped(known.parent)

    def may_have_stopped(self, known: Known) -> bool:
        """Return whether no more targets of this fan-out become messages."""
        return known.stopped or not self.is_alive(known) or self.options.max_backlog is not None

    def end(self, known: Known, outcome: str) -> None:
        known.ended, known.holder = True, ""
        if known.collapse_key and self.waits_under.get(known.collapse_key) is known:
            del self.waits_under[known.collapse_key]
        if known.parent is not None:
            known.parent.tally[outcome] += 1

    def waits_again(self, known: Known) -> None:
        known.holder = ""
        if known.collapse_key:
            self.waits_under.setdefault(known.collapse_key, known)

    def receipts(self) -> Iterator[tuple[str, str, dict[str, int] | None]]:
        """New receipts, as (text of the message, outcome, outcomes of a fan-out's targets)."""
        start = self.last_entry if self.last_entry == "-" else f"({self.last_entry}"
        outbox = self.lanes["w1"].keys.part("outbox")
        for entry_id, fields in self.run(entries_of(self.redis, outbox, min=start)):
            self.last_entry = entry_id.decode()
            entry = msgspec.msgpack.decode(fields[b"letter"])
            if entry[0] == "receipt":
                yield entry[1].removeprefix("r:"), entry[3], (entry[7] if len(entry) > 7 else None) or None

    def read_receipts(self, *expected: str) -> list[tuple[str, str]]:
        """Apply the ends of messages. Outcomes other than `expected` must be ends that can happen at any
        time."""
        found = []
        for text, outcome, targets in self.receipts():
            known = self.known.get(text)
            found.append((text, outcome))
            if known is None:
                assert outcome in {"duplicate", "dropped"}, "a receipt of a message that never was"
                continue
            if outcome == "collapsed":
                continue  # the enqueue that did it looks at it
            assert known.receipted, "a receipt that nobody asked for"
            if targets is not None:
                self.check_fan_out(known, outcome, targets)
            elif outcome == "expired" and not known.ended:
                assert not self.is_alive(known), "it expired before its time"
                assert not known.holder, "a message in flight is not passed over"
            elif outcome == "dropped":
                assert self.options.max_backlog is not None, "dropped from a backlog without an end"
                assert not known.holder, "a message in flight was dropped"
            else:
                assert outcome in expected, f"{outcome} out of the blue"
                assert known.ended, "a receipt of a message that has not ended"
                continue
            if not known.ended:
                self.end(known, outcome)
        return found

    def check_fan_out(self, known: Known, outcome: str, targets: dict[str, int]) -> None:
        assert not known.ended, "a second receipt of a fan-out"
        assert sum(targets.values()) == known.targets, "targets are lost or doubled"
        silent = {"expired", "cancelled", "dropped"}
        counted = {name: number for name, number in targets.items() if name not in silent}
        assert counted == {name: number for name, number in known.tally.items() if name not in silent}
        assert outcome == (next(iter(targets)) if len(targets) == 1 else "partial")
        for child in known.children:
            if not child.ended:
                assert self.may_be_gone(child), "a fan-out ended before its targets"
                self.end(child, "silent")
        if targets.get("delivered"):
            self.remember(known)

    def remember(self, known: Known) -> None:
        if self.options.dedup_window and known.message_id:
            self.seen[known.message_id] = self.clock + self.options.dedup_window

    # Applications

    @rule(
        plan=st.lists(
            st.tuples(
                st.sampled_from(PRIORITIES),
                st.sampled_from(["", "", "", "id-1", "id-2"]),
                st.sampled_from(["", "", "", "k1", "k2"]),
                st.sampled_from(["", "", "", "c1", "c2"]),
                st.sampled_from([0, 0, 0, 5, 60]),
                st.sampled_from([0, 0, 0, 3]),
                st.sampled_from([0, 0, 0, 0, 1, 2, 5]),
                st.booleans(),
                st.sampled_from(["", "h1", "h2"]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def enqueue(self, plan: list[tuple[str, str, str, str, int, int, int, bool, str]]) -> None:
        for priority, message_id, key, collapse, ttl, delay, targets, receipted, host in plan:
            text = f"m{next(self.numbers)}"
            special = message_id or key or collapse or ttl or delay or targets or self.options.max_backlog
            known = Known(
                text,
                number=next(self.order),
                message_id=message_id,
                ordering_key=key,
                collapse_key=collapse,
                priority=PRIORITIES.index(priority),
                expires=self.clock + ttl if ttl else 0.0,
                deliver=self.clock + delay if delay else 0.0,
                receipted=bool(special) or receipted,
                targets=targets,
                destination=host if self.options.group_rules else "",
            )
            message = plain_message(
                text,
                priority=priority,
                expires_at=known.expires,
                deliver_at=known.deliver,
                ordering_key=key,
                collapse_key=collapse,
                reply_to=f"r:{text}" if known.receipted else "",
                group="" if targets else known.destination,
            )
            if message_id:
                message = msgspec.structs.replace(message, id=message_id, named=True)
            if self.large and known.number % self.large == 0:
                payload = msgspec.json.encode({"text": text, "filler": LARGE * "."})
                message = msgspec.structs.replace(message, payload_json=payload)
            self.enqueue_one(known, message)

    def enqueue_one(self, known: Known, message: Message) -> None:
        item: Message | FanOut = message
        if known.targets:
            payload = b'{"text":"%s","targets":%s}' % (
                known.text.encode(),
                msgspec.json.encode([f"{known.text}#{index}" for index in range(known.targets)]),
            )
            item = split(msgspec.structs.replace(message, payload_json=payload), "to", CHUNK)
        named = known.message_id
        same = [other for other in self.pending() if named and other.message_id == named]
        seen = self.seen.get(named, 0.0) > self.clock
        reply: Enqueued = self.run(self.lanes["w1"].enqueue([item]))
        receipts = self.read_receipts()
        if any(self.is_alive(other) for other in same) or seen:
            assert reply.duplicates == 1, "an id became pending twice"
        if reply.duplicates:
            assert same or seen
            assert (known.text, "duplicate") in receipts
            return
        older = self.waits_under.get(known.collapse_key) if known.collapse_key else None
        if older is not None and older.ordering_key != known.ordering_key:
            older = None
        if reply.collapsed:
            assert older is not None, "it replaced what does not wait"
            if older.targets:
                # A fan-out whose turn came unseen freed the key, and a message that waits again took it.
                texts = {text for text, outcome in receipts if outcome == "collapsed"}
                older = next((other for other in self.pending() if other.text in texts), older)
            assert (older.text, "collapsed") in receipts
            known.number = older.number
            known.due = 0.0
            known.in_another_place = bool(
                older.due or older.deliver or older.targets or older.in_another_place
            )
            self.end(older, "collapsed")
        elif older is not None:
            # Only of a fan-out we do not see that its turn has come.
            assert older.ended or older.targets, (
                "a newer message waits with the older one of its collapse_key"
            )
        if reply.dropped and (known.text, "dropped") in receipts:
            assert reply.accepted == 0
            return
        assert reply.accepted == 1
        self.known[known.text] = known
        if known.collapse_key:
            self.waits_under[known.collapse_key] = known

    @rule(message_id=st.sampled_from(["id-1", "id-2"]))
    def cancel(self, message_id: str) -> None:
        same = [known for known in self.pending() if known.message_id == message_id]
        reply = self.run(self.lanes["w1"].cancel(message_id, WORKERS))
        if not same:
            assert reply == "unknown"
            return
        (known,) = same
        if known.targets:
            assert reply in {"cancelled", "unknown"}
            assert reply == "cancelled" or self.may_have_stopped(known)
            known.stopped = True
            if self.waits_under.get(known.collapse_key) is known:
                del self.waits_under[known.collapse_key]
        else:
            assert reply == ("in flight" if known.holder else "cancelled")
            if not known.holder:
                self.end(known, "cancelled")
        self.read_receipts("cancelled")

    # Workers

    @rule(worker=st.sampled_from(WORKERS), wanted=st.integers(1, 20))
    def claim(self, worker: str, wanted: int) -> None:
        for known in self.pending():
            if known.due <= self.clock:
                # Its time has come, even if the clock goes back later.
                known.due = 0.0
        reply = self.run(self.lanes[worker].claim(wanted))
        assert len(reply.claims) <= wanted
        if self.paused or self.held_until > self.clock:
            assert reply.claims == [], "a lane that holds handed out messages"
            assert reply.expansions == []
        elif self.held_until:
            # The claim that finds it over lifts it, even if the clock goes back later.
            self.held_until = 0.0
        self.read_receipts()
        if not self.paused:
            over = [name for name, until in self.destination_held.items() if until <= self.clock]
            for name in over:
                del self.destination_held[name]
        for claim in reply.claims:
            self.take(worker, claim)
        for expansion in reply.expansions:
            self.take_expansion(worker, expansion)
        self.count_handed(reply.claims)
        if reply.reason == "rate" and not self.paused:
            assert reply.wait is not None
            assert reply.wait > 0

    def count_handed(self, claims: Sequence[Claim]) -> None:
        """The buckets of the rate: one for each destination, or one for all."""
        if self.options.group_rules:
            counts = Counter(claim.message.group for claim in claims)
            del counts[""]
        else:
            counts = Counter({"all": len(claims)})
        for name, number in counts.items():
            self.handed.setdefault(name, []).append((self.elapsed, number))

    def take(self, worker: str, claim: Claim) -> None:
        payload = claim.message.payload
        known = self.known[payload.get("to", payload["text"])]
        assert not known.ended, "a message came back after its end"
        assert not known.holder, "a message is in two hands"
        assert round(max(known.due, known.deliver) * 1000) <= self.micros // 1000, "out before its time"
        assert self.is_alive(known), "an expired message went out"
        assert known.parent is None or not known.parent.stopped, "a message that was taken back went out"
        # As for the lane: a hold that a claim has found over is lifted, even if the clock goes back later.
        held_until = self.destination_held.pop(known.destination, 0.0)
        assert held_until <= self.clock, "it went while its destination was held"
        self.check_turn(known)
        known.holder, known.claim = worker, claim
        if self.waits_under.get(known.collapse_key) is known:
            del self.waits_under[known.collapse_key]

    def check_turn(self, known: Known) -> None:
        if not known.ordering_key:
            return
        rivals = [other for other in self.pending() if other.ordering_key == known.ordering_key]
        for other in rivals:
            assert not other.holder, "two of one ordering key in flight"
            if other is not known:
                assert not any(child.holder for child in other.children), (
                    "it was in flight together with a fan-out"
                )
        alive = [other for other in rivals if self.is_alive(other) and not other.stopped]
        assert known.number == min(other.number for other in alive), "an ordering key was overtaken"

    def take_expansion(self, worker: str, expansion: Expansion) -> None:
        known = self.known[expansion.template.payload["text"]]
        assert not known.ended
        assert not known.stopped, "a fan-out that was taken back is expanded"
        assert self.is_alive(known)
        assert round(known.deliver * 1000) <= self.micros // 1000
        assert expansion.first == known.expanded, "a chunk is expanded twice or passed over"
        self.check_turn(known)
        if self.waits_under.get(known.collapse_key) is known:
            del self.waits_under[known.collapse_key]
        self.expansions[worker].append((known, expansion))

    @precondition(lambda self: any(self.expansions.values()))
    @rule(data=st.data(), wanted=st.integers(0, 3))
    def expand(self, data: st.DataObject, wanted: int) -> None:
        worker = data.draw(st.sampled_from([name for name in WORKERS if self.expansions[name]]))
        known, expansion = self.expansions[worker].pop()
        self.expand_one(worker, known, expansion, wanted)

    def expand_one(self, worker: str, known: Known, expansion: Expansion, wanted: int) -> None:
        """Its targets become messages. In a plain lane, the first `wanted` of them may go into flight."""
        lane = self.lanes[worker]
        others = [
            each
            for each in self.pending()
            if self.must_go(each) and not (each.due or each.deliver or each.in_another_place)
        ]
        group_of = None if self.options.group_rules is None else lambda message: known.destination
        done = self.run(lane.expand(expansion, group_of, wanted))
        assert (done is not None) == (not known.ended and not known.stopped)
        assert self.run(lane.expand(expansion, None, wanted)) is None, "an expansion was applied twice"
        for index in range(
            expansion.first, 0 if done is None else min(expansion.first + CHUNK, known.targets)
        ):
            child = Known(
                f"{known.text}#{index}",
                next(self.order),
                priority=known.priority,
                expires=known.expires,
                destination=known.destination,
            )
            child.parent = known
            known.children.append(child)
            known.expanded += 1
            self.known[child.text] = child
        claims = done or ()
        assert len(claims) <= wanted
        if claims:
            assert not self.options.rate, "no token was taken"
            assert not self.paused, "a lane that holds handed out messages"
            assert self.held_until <= self.clock, "a lane that holds handed out messages"
            assert not others, "it overtook messages"
        for claim in claims:
            self.take(worker, claim)
        self.count_handed(claims)

    @precondition(lambda self: any(known.holder for known in self.pending()))
    @rule(data=st.data(), kind=st.sampled_from(["d", "d", "r", "b", "t", "x", "u", "e"]))
    def settle(self, data: st.DataObject, kind: str) -> None:
        held = [known for known in self.pending() if known.holder]
        worker = data.draw(st.sampled_from(sorted({known.holder for known in held})))
        mine = [known for known in held if known.holder == worker]
        self.settle_all(
            worker, data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=5, unique_by=id)), kind
        )

    def settle_all(self, worker: str, chosen: list[Known], kind: str) -> None:
        entries = []
        for known in chosen:
            claim = known.claim
            assert claim is not None
            tries = claim.tries(attempts=claim.message.attempts + 1, isolated=False)
            held = claim.ticket, claim.fencing_token
            entries.append(
                {
                    "d": delivered(claim),
                    "r": RetryLater(*held, 2000, tries, "503"),
                    "b": Released(*held, tries),
                    "t": LaneHeld(*held, tries),
                    "x": rejected(claim),
                    "u": TargetGone(*held, "410", "token", 0, "id", 1, tries, again=1),
                    "e": Overdue(*held, 0),
                }[kind]
            )
            if kind in "rbt":
                if kind == "r":
                    known.due = self.clock + 2.0
                    if known.expires:
                        known.due = min(known.due, known.expires)
                self.waits_again(known)
            else:
                if kind == "d" and known.parent is None:
                    self.remember(known)
                self.end(known, SETTLED[kind])
        reply = self.run(self.lanes[worker].settle(entries))
        assert (reply.settled, reply.stale) == (len(chosen), 0)
        if kind in SETTLED:
            asked = {known.text for known in chosen if known.receipted and known.parent is None}
            told = {text for text, _ in self.read_receipts(SETTLED[kind])}
            assert asked <= told, "an end without its receipt"
        if kind == "d":
            self.seen = {name: until for name, until in self.seen.items() if until > self.clock}
        self.last_entries[worker] = entries

    @precondition(lambda self: any(known.holder and known.destination for known in self.pending()))
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.5, 10.0]))
    def throttle_destination(self, data: st.DataObject, seconds: float) -> None:
        held = [known for known in self.pending() if known.holder and known.destination]
        known = data.draw(st.sampled_from(held))
        claim, worker = known.claim, known.holder
        assert claim is not None
        tries = claim.tries(attempts=claim.message.attempts, isolated=False)
        entry = GroupHeld(claim.ticket, claim.fencing_token, round(seconds * 1000), tries, "busy")
        reply = self.run(self.lanes[worker].settle([entry]))
        assert reply.settled == 1
        assert self.held_until or reply.state == "", "a destination's hold is not the lane's"
        self.waits_again(known)
        until = self.destination_held.get(known.destination, 0.0)
        self.destination_held[known.destination] = max(until, self.clock + seconds)

    @precondition(lambda self: self.last_entries)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.last_entries)))
        entries = self.last_entries[worker]
        reply = self.run(self.lanes[worker].settle(entries))
        assert reply.settled == 0, "a repeated settle was applied twice"
        assert self.read_receipts() == [], "a repeated settle wrote a receipt"

    @rule(worker=st.sampled_from(WORKERS), rescuer=st.sampled_from(WORKERS))
    def crash(self, worker: str, rescuer: str) -> None:
        self.run(self.lanes[rescuer].recover(worker))
        for known in self.held_by(worker):
            assert known.claim is not None
            if known.parent is None:
                self.lost_claims.append((worker, known, known.claim))
            known.crashes += 1
            if known.crashes >= POISON:
                self.end(known, "dead")
        self.go_back(worker, ())
        self.read_receipts("dead")

    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def hand_back(self, worker: str, data: st.DataObject) -> None:
        mine = self.held_by(worker)
        kept = data.draw(st.lists(st.sampled_from(mine), unique_by=id)) if mine else []
        self.run(self.lanes[worker].release(keep=[known.claim.ticket for known in kept if known.claim]))
        self.go_back(worker, kept)

    def held_by(self, worker: str) -> list[Known]:
        return [known for known in self.pending() if known.holder == worker]

    def go_back(self, worker: str, kept: Sequence[Known]) -> None:
        """Messages that the worker held wait again, the newest first."""
        back = [
            (int(known.claim.ticket), known)
            for known in self.held_by(worker)
            if known.claim and known not in kept
        ]
        back += [
            (int(expansion.ticket), known)
            for known, expansion in self.expansions[worker]
            if not known.expanded and not known.stopped and not known.ended
        ]
        self.expansions[worker].clear()
        for _, known in sorted(back, key=lambda item: -item[0]):
            self.waits_again(known)

    @precondition(lambda self: self.lost_claims)
    @rule(data=st.data())
    def a_dead_worker_s_success_arrives_late(self, data: st.DataObject) -> None:
        """A success is final even under a stale claim, unless the message was replaced meanwhile."""
        worker, known, claim = data.draw(st.sampled_from(self.lost_claims))
        self.lost_claims.remove((worker, known, claim))
        holder, current = known.holder, known.claim
        reply = self.run(self.lanes[worker].settle([delivered(claim)]))
        assert (reply.settled, reply.stale) == (0, 1)
        if known.ended:
            assert self.read_receipts() == []
            return
        self.remember(known)
        self.end(known, "delivered")
        self.read_receipts("delivered")
        self.seen = {name: until for name, until in self.seen.items() if until > self.clock}
        if holder and current is not None:
            again = self.run(self.lanes[holder].settle([rejected(current)]))
            assert (again.settled, again.stale) == (1, 0), "the one who holds it now is not told"
            assert self.read_receipts() == []

    @precondition(lambda self: any(known.holder for known in self.pending()))
    @rule(data=st.data())
    def frozen_worker_wakes(self, data: st.DataObject) -> None:
        """It settles messages that others have taken over: nothing changes."""
        known = data.draw(st.sampled_from([known for known in self.pending() if known.holder]))
        claim = known.claim
        assert claim is not None
        stale = msgspec.structs.replace(rejected(claim), fencing_token=str(int(claim.fencing_token) - 1000))
        reply = self.run(self.lanes[known.holder].settle([stale]))
        assert (reply.settled, reply.stale) == (0, 1)

    # Operators

    @rule()
    def revive(self) -> None:
        """All dead letters return, except those whose id is pending again."""
        lane = self.lanes["w1"]
        entries = self.run(entries_of(self.redis, lane.keys.part("dead")))
        if not entries:
            return
        letters = [entry.decode() for entry, _ in entries]
        revived, passed, _ = self.run(dead.revive(self.redis, "relay", lane.provider, letters))
        assert revived + passed == len(entries)
        left = {entry for entry, _ in self.run(entries_of(self.redis, lane.keys.part("dead")))}
        assert len(left) == passed
        for entry, fields in entries:
            if entry in left:
                continue
            body = fields[b"record"][2 + int.from_bytes(fields[b"record"][:2], "big") :]
            payload = msgspec.json.decode(msgspec.msgpack.decode(body)[2])
            old = self.known.pop(payload.get("to", payload["text"]))
            new = Known(
                old.text,
                next(self.order),
                message_id=old.message_id,
                ordering_key=old.ordering_key,
                priority=old.priority,
                expires=old.expires,
                deliver=old.deliver,
                receipted=old.receipted,
                destination=old.destination,
            )
            self.known[new.text] = new
            self.note_expiry(new)

    @rule()
    def pause(self) -> None:
        self.run(self.lanes["w1"].pause())
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.run(self.lanes["w2"].resume())
        self.paused, self.held_until = False, 0.0

    @rule(seconds=st.sampled_from([0.5, 10]))
    def throttle(self, seconds: float) -> None:
        reply = self.run(self.lanes["w1"].settle([], Hold(seconds, "429")))
        self.held_until = self.clock + reply.hold
        assert reply.hold >= seconds

    # Invariants

    @invariant()
    def the_rate_holds_in_every_window(self) -> None:
        for handed in self.handed.values():
            for rate, burst in zip(self.options.rate, self.options.bursts(), strict=True):
                for start in range(len(handed)):
                    total = 0
                    for at, number in handed[start:]:
                        total += number
                        allowed = burst + rate.per_second * (at - handed[start][0])
                        assert total <= allowed + EPSILON, "more went out than burst + rate x time"

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        if not hasattr(self, "lanes"):
            return
        bodies = self.run(self.lanes["w1"].size())
        pending = self.pending()
        unsure = sum(
            self.may_have_stopped(known) if known.targets else self.may_be_gone(known) for known in pending
        )
        assert len(pending) - unsure <= bodies <= len(pending)
        for worker, lane in self.lanes.items():
            held = self.run(self.redis.hlen(lane.keys.inflight(worker)))
            assert held == sum(known.holder == worker for known in pending) + len(self.expansions[worker])

    def drain(self) -> None:
        """No message starves: with time and claims each is sent once, and nothing is left behind."""
        if not hasattr(self, "lanes"):
            return
        self.resume()
        for worker in WORKERS:
            self.run(self.lanes[worker].release())
            self.go_back(worker, ())
        waits = [max(known.due, known.deliver) for known in self.pending()]
        # A clock that is set back postpones the time of a collapsed message, which the new one keeps,
        # and the end of a group's hold, even of one that was over.
        for name in ("due", "groups:due"):
            due = self.run(self.redis.zrange(f"relay:{{test}}:{name}", 0, -1, withscores=True))
            waits += [at / 1000 for _, at in due]
        latest = max([self.clock, *waits, *self.destination_held.values()])
        self.micros = round(latest * 1_000) * 1_000
        lane = self.lanes["w1"]
        for _ in range(60 + 30 * len(self.known)):
            self.time_passes(1.0)
            self.claim("w1", 50)
            expansions, self.expansions["w1"] = self.expansions["w1"], []
            for known, expansion in expansions:
                self.expand_one("w1", known, expansion, 1)
            held = [known for known in self.pending() if known.holder]
            if held:
                self.settle_all("w1", held, "d")
            elif not expansions and not self.run(lane.size()):
                break
        for _ in range(4):  # the state of a group is deleted when it has no effect any more
            self.time_passes(2 * 86400.0)
            self.claim("w1", 50)
        assert self.run(lane.size()) == 0, "messages are starved"
        unheard_of = {known.text for known in self.known.values() if not known.receipted and known.stopped}
        assert {known.text for known in self.pending()} <= unheard_of, "messages are lost"
        left = {key.decode().rpartition("}:")[2] for key in self.run(self.redis.keys("relay:*"))}
        # Redis ends the hash of groups that failed, by a clock that the test does not set.
        assert left <= {"control", "dead", "journal", "outbox", "seen", "groups:tried"}, (
            "something was left behind"
        )


class PlainLaneMachine(LaneMachine):
    """A lane whose claims and settles take their short ways: without a rate, and with few headers."""

    @initialize(large=st.sampled_from([0, 0, 1, 2, 7]))
    def begin(self, large: int) -> None:
        self.large = large
        self.open_lanes(ProviderOptions(type="test", breaker={"failures": 10_000}))

    @rule(
        kinds=st.lists(
            st.sampled_from(["plain", "high", "receipt", "ordered", "delayed", "fan-out"]), max_size=3
        ),
        plain=st.integers(1, 20),
        worker=st.sampled_from(WORKERS),
        wanted=st.integers(1, 25),
        kept=st.integers(0, 5),
    )
    def serve(self, kinds: list[str], plain: int, worker: str, wanted: int, kept: int) -> None:
        """Enqueue, claim, and settle deliveries, most of them without a header."""
        for kind in [*["plain"] * plain, *kinds]:
            key, delay = "k1" if kind == "ordered" else "", 3 if kind == "delayed" else 0
            priority = "high" if kind == "high" else "normal"
            targets = 5 if kind == "fan-out" else 0
            self.enqueue([(priority, "", key, "", 0, delay, targets, kind == "receipt", "")])
        self.claim(worker, wanted)
        self.settle_short(worker, kept)

    def settle_short(self, worker: str, kept: int) -> None:
        """Settle deliveries of all but `kept` messages whose records no script has to read."""
        claims = {known: known.claim for known in self.held_by(worker) if known.claim}
        held = [known for known, claim in claims.items() if claim.headerless or claim.part_of]
        if held[kept:]:
            self.settle_all(worker, held[kept:], "d")

    @rule(
        worker=st.sampled_from(WORKERS),
        sizes=st.lists(st.integers(1, 9), max_size=3),
        wanted=st.integers(0, 3),
        kept=st.integers(0, 3),
    )
    def serve_fan_outs(self, worker: str, sizes: list[int], wanted: int, kept: int) -> None:
        """Enqueue fan-outs, and serve the lane until they are messages, if it is open: the first `wanted` of
        each chunk may go straight into flight."""
        self.enqueue([("normal", "", "", "", 0, 0, targets, True, "") for targets in sizes])
        for _ in range(10):
            self.claim(worker, 20)
            for known, expansion in self.expansions[worker]:
                self.expand_one(worker, known, expansion, wanted)
            self.expansions[worker].clear()
            self.settle_short(worker, kept)

    @rule(worker=st.sampled_from(WORKERS), priority=st.sampled_from(PRIORITIES), settled=st.booleans())
    def take_directly(self, worker: str, priority: str, settled: bool) -> None:
        """A single element goes from its queue into flight, or stays if anything waits or the lane holds."""
        text, queue = f"m{next(self.numbers)}", Queue(self.redis, "relay", "{test}queue", worker)
        known = Known(text, number=next(self.order), priority=PRIORITIES.index(priority))
        self.run(self.redis.rpush(queue.keys.staged, text))
        taken = self.run(
            self.lanes[worker].take(plain_message(text, priority=priority), queue, text.encode())
        )
        left = self.run(self.redis.llen(queue.keys.staged))
        if taken is None:
            assert left == 1
            self.run(self.redis.delete(queue.keys.staged))
            return
        assert (taken.left, left) == (0, 0)
        assert not self.paused, "a lane that holds handed out a message"
        assert self.held_until <= self.clock, "a lane that holds handed out a message"
        assert not any(map(self.must_go, self.pending())), "it overtook a message"
        self.known[text] = known
        self.take(worker, taken.claim)
        self.count_handed([taken.claim])
        if settled:
            self.settle_all(worker, [known], "d")

    @rule(
        worker=st.sampled_from(WORKERS),
        number=st.integers(1, 20),
        kept=st.integers(0, 3),
        others=st.sampled_from([None, (0, 1), (1, 0), (2, 1)]),
    )
    def enqueue_directly(
        self, worker: str, number: int, kept: int, others: tuple[int, int] | None = None
    ) -> None:
        """A part of a fetch goes into flight, or through the lane if anything waits there or it holds.

        `others`: the numbers of other lanes before and after it in one script for all; None: its own script.
        """
        known = [Known(f"m{next(self.numbers)}", number=next(self.order)) for _ in range(number)]
        messages = [plain_message(each.text) for each in known]
        sequence = str(next(self.order))
        claims = self.into_flight(worker, messages, sequence, others)
        self.known |= {each.text: each for each in known}
        if claims is None:
            assert (
                self.run(self.lanes[worker].enqueue(messages, f"batch:{worker}", sequence)).accepted == number
            )
            return
        assert not self.paused, "a lane that holds handed out messages"
        assert self.held_until <= self.clock, "a lane that holds handed out messages"
        assert not self.into_flight(worker, messages, sequence, others)
        for claim in claims:
            self.take(worker, claim)
        self.count_handed(claims)
        if known[kept:]:
            self.settle_all(worker, known[kept:], "d")

    def into_flight(
        self, worker: str, messages: Sequence[Message], sequence: str, others: tuple[int, int] | None
    ) -> Sequence[Claim] | None:
        """Put messages into flight. Other lanes get one message each, as often as the script runs."""
        lane, batch_id = self.lanes[worker], f"batch:{worker}"
        claims: Sequence[Claim] | None
        if others is None or is_cluster(self.redis):
            claims = self.run(lane.enqueue_into_flight(messages, batch_id, sequence))
            return claims
        before, _ = others
        strangers = [a_lane(self.redis, name=f"other{index}", worker=worker) for index in range(sum(others))]
        parts = [Part(other, [plain_message("x")]) for other in strangers]
        parts.insert(before, Part(lane, messages))
        replies = self.run(ManyLanes(self.redis).enqueue_into_flight(parts, batch_id, sequence))
        claims = replies.pop(before)
        assert [len(reply) for reply in replies] == [1] * sum(others)
        for other in strangers:
            self.run(self.redis.unlink(other.keys.inflight(worker), *other.keys.shared))
        return claims


def check(machine: type[LaneMachine], url: str, examples: int) -> None:
    run_state_machine_as_test(
        type("Machine", (machine,), {"url": url}),
        settings=settings(
            max_examples=int(os.environ.get("RELAY_MODEL_EXAMPLES", examples)),
            stateful_step_count=40,
            deadline=None,
            # A failing example is short enough to read; shrinking it takes minutes.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_scripts_do_as_the_model(server_url: str) -> None:
    check(LaneMachine, server_url, 60)


def test_the_short_ways_of_the_scripts_do_as_the_model(server_url: str) -> None:
    check(PlainLaneMachine, server_url, 60)
