"""Settles outcomes in Redis, many in one script, and applies the lane's state from the reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from relay.engine.lane_state import ARRIVED, AWAITED, OUTCOME, SETTLED, WOKEN, LaneState
from relay.engine.repeats import redis_trouble, thinned
from relay.errors import StoreError
from relay.store.codec import GroupChange, Settled
from relay.store.lane import Lane
from relay.store.settlement import (
    Delayed,
    DeliveredHeaderless,
    DeliveredOne,
    DeliveredTarget,
    Refused,
    RetryLater,
    Settlement,
    TargetGone,
)
from relay.store.states import State
from relay.text import one_line

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SettleTuning:
    """Durations are in seconds."""

    most: int = 200
    """Outcomes in one script."""
    most_failures: int = 100
    """The same if there are more failures than this among them: keeps the script under a millisecond."""
    most_failures_of_groups: int = 60
    """The same in a lane with groups: a failure also changes the state of its group."""
    linger: float = 0.004
    """Wait for more outcomes while messages are in flight: a script for each one costs more than the wait."""
    linger_plain: float = 0.02
    """The same for deliveries that nobody waits for: without a receipt, and without an ordering key."""
    linger_if_full: float = 0.001
    """The same while groups have as many messages in flight as they may: a settle lets them go on."""
    recent: float = 0.03
    """Keep batching outcomes for this long after the last settle, although nothing is in flight."""
    pause: float = 0.1
    """Wait before sending outcomes again that Redis did not accept."""


_DELIVERED = frozenset({DeliveredHeaderless, DeliveredOne, DeliveredTarget})

_DUE_LATER = frozenset({RetryLater, Delayed, Refused, TargetGone})
"""These wait in the lane: the next claim returns when they are due."""


class Settler:
    """The settle loop of one lane. `run` returns when it is cancelled."""

    def __init__(
        self,
        lane: Lane,
        state: LaneState,
        *,
        on_outbox: Callable[[], None],
        on_hold: Callable[[], None],
        tuning: SettleTuning = SettleTuning(),
    ) -> None:
        """`on_outbox` is called when the outbox has entries, `on_hold` when the lane begins to hold."""
        self._lane = lane
        self._state = state
        self._on_outbox = on_outbox
        self._on_hold = on_hold
        self._tuning = tuning
        self._lane_state = ""
        self._last = 0.0
        """The time at which Redis accepted the last outcomes, in monotonic seconds."""
        self._isolated = 0
        """Send this many of the first outcomes one at a time, because one of them cannot be settled."""

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            await self._step()

    async def _step(self) -> None:
        state = self._state
        await self._wait()
        settlements = self._first_settlements()
        hold, state.urgent = state.hold, False
        try:
            settled = await self._settle(settlements)
        except Exception:
            self._isolate(settlements)
            raise
        self._last = time.monotonic()
        if state.hold is hold:
            state.hold = None
        self._remove(settlements)
        state.wakeups.notify(SETTLED)
        if not _DUE_LATER.isdisjoint(map(type, settlements)):
            state.wakeups.notify(ARRIVED)
        self._apply(settled)

    async def _wait(self) -> None:
        """Wait for an outcome, and then for more if they are likely to come soon."""
        state, tuning = self._state, self._tuning
        while not state.settlements:
            state.wakeups.clear(OUTCOME | AWAITED)
            await state.wakeups.wait(OUTCOME)
        recent = time.monotonic() - self._last < tuning.recent and not state.urgent
        if (state.held or recent) and len(state.settlements) < tuning.most:
            await self._linger()

    async def _linger(self) -> None:
        state, tuning = self._state, self._tuning
        if state.groups_full:
            await asyncio.sleep(tuning.linger_if_full)
            return
        # In a lane with groups, the next message of a group may wait for the settle.
        waits = state.reserve is not None
        if not waits and all(type(settlement) is DeliveredHeaderless for settlement in state.settlements):
            state.wakeups.clear(AWAITED)
            await state.wakeups.wait(AWAITED, tuning.linger_plain)
            if not state.wakeups.is_set(AWAITED):
                return
        await asyncio.sleep(tuning.linger)

    def _first_settlements(self) -> list[Settlement]:
        """Return the settlements for the next script."""
        tuning = self._tuning
        if self._isolated:
            return self._state.settlements[:1]
        settlements = self._state.settlements[: tuning.most]
        most = tuning.most_failures if self._state.reserve is None else tuning.most_failures_of_groups
        failures = sum(type(settlement) not in _DELIVERED for settlement in settlements)
        return settlements[:most] if failures > most else settlements

    async def _settle(self, settlements: Sequence[Settlement]) -> Settled:
        hold = self._state.hold
        try:
            return await self._lane.settle(settlements, hold)
        except StoreError as error:
            self._warn(error)
        await asyncio.sleep(self._tuning.pause)
        until_taken = AsyncRetrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_random_exponential(multiplier=self._tuning.pause, max=2),
            before_sleep=lambda attempt: self._warn(attempt.outcome.exception() if attempt.outcome else None),
        )
        return await until_taken(self._lane.settle, settlements, hold)

    def _warn(self, error: BaseException | None) -> None:
        redis_trouble.log("cannot settle", error, of=self._lane.provider)

    def _isolate(self, settlements: Sequence[Settlement]) -> None:
        """Find the outcome that cannot be settled. The next claim releases its message."""
        if len(settlements) > 1:
            self._isolated = len(settlements)
            return
        self._remove(settlements)
        self._state.uncertain = True
        self._state.wakeups.notify(SETTLED | ARRIVED | WOKEN)

    def _remove(self, settlements: Sequence[Settlement]) -> None:
        """Remove the first settlements."""
        state = self._state
        del state.settlements[: len(settlements)]
        self._isolated = max(0, self._isolated - 1)
        if state.refusals:
            state.refusals -= sum(type(settlement) is Refused for settlement in settlements)
            state.wakeups.notify(WOKEN)

    def _apply(self, settled: Settled) -> None:
        state = self._state
        if settled.stale:
            logger.info(
                "outcomes came too late; other workers have the messages",
                messages=settled.stale,
                provider=self._lane.provider,
            )
        if settled.state != self._lane_state:
            self._report(settled)
        for change in settled.groups:
            self._report_group(change)
        if settled.state or self._lane_state:
            state.wakeups.notify(WOKEN)
        self._lane_state = settled.state
        if settled.state and settled.hold > 0:
            state.hold_for(settled.hold)
            self._on_hold()
        elif state.hold is None:
            state.held_until = 0.0
            if settled.state == State.TRIAL:
                self._on_hold()
        if settled.outbox:
            self._on_outbox()
        if settled.ready:
            state.wakeups.notify(ARRIVED)

    def _report_group(self, change: GroupChange) -> None:
        """Log a group. Of many groups with the same trouble, the first is named, the others are counted."""
        name, group = self._lane.provider, one_line(change.group)
        match change.state:
            case "":
                thinned.log("info", "a group is served again", name, "", provider=name, group=group)
            case "disabled":
                event = "A GROUP IS DISABLED: its messages become dead letters until relay resume"
                thinned.log("error", event, name, change.reason, provider=name, group=group)
            case state:
                fields = {"provider": name, "group": group, "state": state, "seconds": change.seconds}
                thinned.log("warning", "a group is held", name, change.reason, **fields)

    def _report(self, settled: Settled) -> None:
        name = self._lane.provider
        if not settled.state:
            thinned.log("info", "the provider is served again", name, "", provider=name)
            return
        fields = {"provider": name, "state": settled.state, "seconds": settled.hold}
        match settled.state:
            case State.TRIAL:
                thinned.log("warning", "a message was refused; trying others", name, settled.reason, **fields)
            case State.UNAUTHORISED:
                event = "THE PROVIDER REFUSES OUR CREDENTIALS: its lane holds until they are fixed"
                thinned.log("error", event, name, settled.reason, **fields)
            case State.UNREGISTERED:
                event = "TOO MANY TARGETS ARE UNREGISTERED: the lane holds until relay resume"
                thinned.log("error", event, name, settled.reason, **fields)
            case State.FAULTY:
                event = "THE ADAPTER FAILS: its lane holds until it is fixed"
                thinned.log("error", event, name, settled.reason, **fields)
            case _:
                thinned.log("warning", "the lane holds", name, settled.reason, **fields)
