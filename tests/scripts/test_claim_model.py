"""The lane's scripts against a model in plain Python, under arbitrary interleavings and clock steps.

Several workers enqueue, claim, settle, repeat themselves, crash and hand back, while operators pause and
resume and Redis's clock moves forward and back. Whatever happens: the rate's bound holds, no message is
lost, doubled or starved, order holds where it was asked for, and nothing is left behind at the end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from relay.message import PRIORITIES
from relay.store.lane import POISON, Claim, Hold, Lane
from tests.conftest import BINARIES
from tests.support.builders import a_message, options
from tests.support.clock import set_clock, settable_clock
from tests.support.redis_server import RedisServer

WORKERS = ("w1", "w2", "w3")
EPSILON = 1e-3  # messages: what floating point may be off


@dataclass
class Known:
    """One message as the model sees it. `holder` has it in flight; `due` is when it may go."""

    number: int
    message_id: str
    ordering_key: str
    priority: int
    expires: float
    due: float
    holder: str = ""
    claim: Claim | None = None
    crashes: int = 0
    ended: bool = False
    times_ended: int = 0


class LaneMachine(RuleBasedStateMachine):
    """`url` is set by the test."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.stack.enter_context(settable_clock())
        self.redis = Redis.from_url(self.url, protocol=2)
        self.stack.callback(lambda: self.run(self.redis.aclose()))
        self.numbers = itertools.count()
        self.known: dict[str, Known] = {}
        self.micros = 1_000_000_000_000_000
        self.elapsed = 0.0
        self.handed: list[tuple[float, int]] = []
        self.paused = False
        self.held_until = 0.0
        self.last_entries: dict[str, list[Any]] = {}

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.stack.close()

    @initialize(
        rate=st.sampled_from([None, "1/s", "7/s", "1000/s", "90/m"]),
        burst=st.sampled_from([None, 1, 5, 30]),
        order=st.sampled_from(["fifo", "lifo"]),
    )
    def begin(self, rate: str | None, burst: int | None, order: str) -> None:
        self.options = options(rate, burst=burst, order=order, breaker={"failures": 10_000})
        self.lanes = {name: Lane(self.redis, "relay", "test", self.options, name) for name in WORKERS}
        self.run(self.redis.flushall())
        self.set_clock()

    @property
    def clock(self) -> float:
        """Unix seconds; always a whole millisecond, as the scripts count."""
        return self.micros / 1_000_000

    def set_clock(self) -> None:
        self.run(set_clock(self.redis, *divmod(self.micros, 1_000_000)))

    def pending(self) -> list[Known]:
        return [known for known in self.known.values() if not known.ended]

    def is_alive(self, known: Known) -> bool:
        """Whether its time is not over, in whole milliseconds as the scripts count."""
        return not known.expires or round(known.expires * 1000) > self.micros // 1000

    def end(self, known: Known) -> None:
        known.ended, known.holder = True, ""
        known.times_ended += 1

    @rule(
        plan=st.lists(
            st.tuples(
                st.sampled_from(PRIORITIES),
                st.sampled_from(["", "", "", "id-1", "id-2"]),
                st.sampled_from(["", "", "", "k1", "k2"]),
                st.sampled_from([0, 0, 0, 5, 60]),
                st.sampled_from([0, 0, 0, 3]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def enqueue(self, plan: list[tuple[str, str, str, int, int]]) -> None:
        for priority, message_id, key, ttl, delay in plan:
            text = f"m{next(self.numbers)}"
            fields: dict[str, Any] = {
                "ordering_key": key,
                "expires_at": self.clock + ttl if ttl else 0.0,
                "deliver_at": self.clock + delay if delay else 0.0,
            }
            message = a_message(
                message_id, priority=priority, payload_json=b'{"text":"%s"}' % text.encode(), **fields
            )
            same = [known for known in self.pending() if message_id and known.message_id == message_id]
            reply = self.run(self.lanes["w1"].enqueue([message]))
            if any(self.is_alive(known) for known in same):
                assert reply.duplicates == 1, "an id became pending twice"
            elif not same:
                assert reply.accepted == 1
            if reply.accepted:
                number = len(self.known)
                due = fields["deliver_at"]
                level = PRIORITIES.index(priority)
                self.known[text] = Known(number, message_id, key, level, fields["expires_at"], due)

    @rule(worker=st.sampled_from(WORKERS), wanted=st.integers(1, 20))
    def claim(self, worker: str, wanted: int) -> None:
        for known in self.pending():
            if known.due <= self.clock:
                # Its time has come, whatever the clock says later.
                known.due = 0.0
        reply = self.run(self.lanes[worker].claim(wanted))
        assert len(reply.claims) <= wanted
        if self.paused or self.held_until > self.clock:
            assert reply.claims == [], "a lane that holds handed out messages"
        for claim in reply.claims:
            self.take(worker, claim)
        if reply.claims:
            self.handed.append((self.elapsed, len(reply.claims)))
        if reply.why == "rate" and not self.paused:
            assert reply.wait is not None
            assert reply.wait > 0

    def take(self, worker: str, claim: Claim) -> None:
        known = self.known[claim.message.payload["text"]]
        assert not known.ended, "a message came back after its end"
        assert not known.holder, "a message is in two hands"
        assert round(known.due * 1000) <= self.micros // 1000, "a message went out before its time"
        assert self.is_alive(known), "an expired message went out"
        if known.ordering_key:
            rivals = [other for other in self.pending() if other.ordering_key == known.ordering_key]
            assert not any(other.holder for other in rivals), "two of one ordering key in flight"
            alive = [other for other in rivals if self.is_alive(other)]
            assert known.number == min(other.number for other in alive), "an ordering key was overtaken"
        known.holder, known.claim = worker, claim

    @precondition(lambda self: any(known.holder for known in self.pending()))
    @rule(data=st.data(), kind=st.sampled_from(["d", "d", "r", "b", "x", "u", "e"]))
    def settle(self, data: st.DataObject, kind: str) -> None:
        held = [known for known in self.pending() if known.holder]
        worker = data.draw(st.sampled_from(sorted({known.holder for known in held})))
        mine = [known for known in held if known.holder == worker]
        chosen = data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=5, unique_by=id))
        entries = []
        for known in chosen:
            claim = known.claim
            assert claim is not None
            tries = claim.tries(attempts=claim.message.attempts + 1, alone=False)
            tail: dict[str, tuple[object, ...]] = {
                "d": (1,),
                "r": (2000, tries, "503"),
                "b": (tries,),
                "x": ("400", 400, b"no", 1, 1),
                "u": ("410", "token", 0, "id", 1),
                "e": (0,),
            }
            entries.append((claim.ticket, claim.fence, kind, *tail[kind]))
            if kind == "r":
                known.holder, known.due = "", self.clock + 2.0
            elif kind == "b":
                known.holder = ""
            else:
                self.end(known)
        reply = self.run(self.lanes[worker].settle(entries))
        assert (reply.settled, reply.stale) == (len(chosen), 0)
        self.last_entries[worker] = entries

    @precondition(lambda self: self.last_entries)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.last_entries)))
        entries = self.last_entries[worker]
        reply = self.run(self.lanes[worker].settle(entries))
        assert reply.settled == 0, "a repeated settle was applied twice"

    @rule(worker=st.sampled_from(WORKERS), rescuer=st.sampled_from(WORKERS))
    def crash(self, worker: str, rescuer: str) -> None:
        self.run(self.lanes[rescuer].recover(worker))
        for known in self.pending():
            if known.holder == worker:
                known.holder = ""
                known.crashes += 1
                if known.crashes >= POISON:
                    self.end(known)

    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def hand_back(self, worker: str, data: st.DataObject) -> None:
        mine = [known for known in self.pending() if known.holder == worker]
        kept = data.draw(st.lists(st.sampled_from(mine), unique_by=id)) if mine else []
        returned = self.run(
            self.lanes[worker].hand_back(keep=[known.claim.ticket for known in kept if known.claim])
        )
        assert returned == len(mine) - len(kept)
        for known in mine:
            if known not in kept:
                known.holder = ""

    @precondition(lambda self: any(known.holder for known in self.pending()))
    @rule(data=st.data())
    def frozen_worker_wakes(self, data: st.DataObject) -> None:
        """It settles what was handed on: nothing changes."""
        known = data.draw(st.sampled_from([known for known in self.pending() if known.holder]))
        claim = known.claim
        assert claim is not None
        stale = (claim.ticket, str(int(claim.fence) - 1000), "x", "late", 0, b"", 1, 1)
        reply = self.run(self.lanes[known.holder].settle([stale]))
        assert (reply.settled, reply.stale) == (0, 1)

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
        reply = self.run(self.lanes["w1"].settle([], Hold("throttled", seconds, "429")))
        self.held_until = self.clock + reply.hold
        assert reply.hold >= seconds

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.3, 1.0, 4.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.micros += round(seconds * 1_000_000)
        self.elapsed += seconds
        self.set_clock()

    @rule(seconds=st.sampled_from([0.01, 2.0, 100.0]))
    def clock_is_set_back(self, seconds: float) -> None:
        self.micros -= round(seconds * 1_000_000)
        self.set_clock()

    @invariant()
    def the_rate_holds_in_every_window(self) -> None:
        if not self.handed:
            return
        for rate, burst in zip(self.options.rate, self.options.bursts(), strict=True):
            for start in range(len(self.handed)):
                total = 0
                for at, number in self.handed[start:]:
                    total += number
                    allowed = burst + rate.per_second * (at - self.handed[start][0])
                    assert total <= allowed + EPSILON, "more went out than burst + rate x time"

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        if not hasattr(self, "lanes"):
            return
        bodies = self.run(self.lanes["w1"].size())
        pending = self.pending()
        expired = sum(bool(known.expires) for known in pending if not known.holder)
        assert len(pending) - expired <= bodies <= len(pending)
        for worker, lane in self.lanes.items():
            held = self.run(self.redis.hlen(lane.keys.inflight(worker)))
            assert held == sum(known.holder == worker for known in pending)

    def drain(self) -> None:
        """None is starved: with time and claims everything goes out, once, and leaves nothing behind."""
        if not hasattr(self, "lanes"):
            return
        self.resume()
        for worker in WORKERS:
            self.run(self.lanes[worker].hand_back())
        for known in self.pending():
            known.holder = ""
        latest = max([self.clock, *(known.due for known in self.pending())])
        self.micros = round(latest * 1_000) * 1_000
        lane = self.lanes["w1"]
        for _ in range(40 + 30 * len(self.known)):
            self.time_passes(1.0)
            claims = self.run(lane.claim(50)).claims
            for claim in claims:
                self.take("w1", claim)
                self.end(self.known[claim.message.payload["text"]])
            self.run(lane.settle([(claim.ticket, claim.fence, "d", 1) for claim in claims]))
            if not self.run(lane.size()) and not claims:
                break
        assert self.run(lane.size()) == 0, "messages are starved"
        assert all(known.times_ended <= 1 for known in self.known.values())
        lost = [text for text, known in self.known.items() if not known.ended and not known.expires]
        assert lost == [], "messages are lost"
        left = {key.decode().rpartition("}:")[2] for key in self.run(self.redis.keys("relay:*"))}
        assert left <= {"control", "dead", "outbox", "seen"}, "something was left behind"


@pytest.fixture(scope="module", params=sorted(BINARIES), ids=lambda version: f"redis-{version}")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisServer(BINARIES[request.param], tmp_path_factory.mktemp("model"), "--appendonly", "no")
    server.start()
    yield server.url
    server.stop()


def test_the_scripts_do_as_the_model(url: str, tmp_path: Path) -> None:
    machine = type("Machine", (LaneMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
