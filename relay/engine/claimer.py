"""Claims as many messages of a lane as slots are free, and passes them to the sender in batches."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from relay.engine.direct_claims import DirectClaims
from relay.engine.grouping import grouping
from relay.engine.lane_state import ARRIVED, SETTLED, SLOT_FREED, WOKEN, Batch, LaneState
from relay.engine.pacing import Pace, Paces
from relay.engine.repeats import redis_trouble
from relay.engine.sender import Sender
from relay.errors import StoreError
from relay.message import Message
from relay.provider import Provider
from relay.settings.options import ProviderOptions
from relay.store.claims import Claim, Claimed, Expansion
from relay.store.lane import Lane

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ClaimTuning:
    """Durations are in seconds."""

    most: int = 100
    """The most messages of one claim: keeps the script well under a millisecond."""
    most_of_limited_groups: int = 75
    """The same if each group has a rate: a message changes the tokens of its group."""
    unsettled_most: int = 2000
    """Claim nothing while more outcomes than this wait for Redis. If claims work and settles fail, each
    message that is sent will be sent again."""
    idle_poll: float = 30.0
    """Claim again after a random half to whole of this if a lane holds, because a wake-up may be lost. Empty
    lanes are checked together, see `IdleLanes`."""
    linger: float = 0.004
    """Wait for more free slots if at least as many become free meanwhile: a script for each one costs more
    than the wait."""
    timer_slack: float = 0.001
    """Timers are late by up to this: for a token it is better to claim twice than too late."""
    no_lease_pause: float = 0.2
    """Wait before the next attempt to claim while other workers may count this one as dead."""
    trouble_pause: float = 1.0
    """Wait after Redis failed."""
    cold_after: float = 10.0
    """After this long without a claim, the next request may have to open a connection."""
    first_answer: float = 0.5
    """Under a rate, the longest wait for the answer to such a request before more messages are claimed."""


class Claimer:
    """The claim loop of one lane. `run` returns when it is cancelled."""

    def __init__(
        self,
        lane: Lane,
        provider: Provider[ProviderOptions],
        state: LaneState,
        sender: Sender,
        direct: DirectClaims,
        *,
        lease_valid_since: Callable[[float], bool],
        on_outbox: Callable[[], None],
        tuning: ClaimTuning = ClaimTuning(),
    ) -> None:
        """`lease_valid_since` and `on_outbox`: see `Dispatcher`."""
        options = provider.options
        self._lane = lane
        self._provider = provider
        self._state = state
        self._sender = sender
        self._direct = direct
        self._lease_valid_since = lease_valid_since
        self._on_outbox = on_outbox
        self._tuning = tuning
        self._slots = options.concurrency * provider.batch_size
        limits_groups = options.group_rules is not None and options.group_rules.rate
        self._most = tuning.most_of_limited_groups if limits_groups else tuning.most
        self._paces = Paces(options.lane_rate, provider.batch_size)

        # Private state of the loop.
        self._prefetch = 0
        """Messages to claim beyond the free slots: as many as end before the reply to the next claim."""
        self._counted, self._counted_at = 0, time.monotonic()
        """The number of finished messages when free slots were last counted."""
        self._claimed_at = -math.inf
        """The time of the last claim of messages, in monotonic seconds."""

    async def run(self) -> None:
        """Claim until cancelled. May be restarted after a failure: deliveries in flight are not affected."""
        try:
            while True:
                await self._step()
        finally:
            self._state.drop_unknown(self._sender.tickets())

    async def _step(self) -> None:
        state, tuning = self._state, self._tuning
        finished = state.finished
        capacity = await self._capacity()
        state.wakeups.clear(WOKEN)
        if (left := state.hold_left) > 0:
            await state.wakeups.wait(WOKEN, left)
            return
        sent = time.monotonic()
        if not self._lease_valid_since(sent):
            await state.wakeups.wait(WOKEN, tuning.no_lease_pause)
            return
        idle = not state.held and not state.settlements and self._direct.is_idle
        first = self._is_first(sent)
        claimed = await self._claim(min(capacity, self._provider.batch_size) if first else capacity)
        if claimed is None:
            await state.wakeups.wait(WOKEN, tuning.trouble_pause)
            return
        answered = time.monotonic()
        self._prefetch = min(2 * self._slots, 2 * (state.finished - finished))
        if claimed.claims or claimed.reason == "full":
            state.groups_full = claimed.reason == "full"
        if claimed.passed_over:
            self._on_outbox()
        for claim in claimed.claims:
            state.held[claim.ticket] = sent
        if state.reserve is not None:
            state.reserve.claimed(claimed.claims)
        self._claimed_at = answered if claimed.claims else self._claimed_at
        finished = state.finished
        await self._send(claimed.claims, self._paces.at(claimed.override) if claimed.claims else None)
        if first and claimed.claims:
            await self._wait_for_answer(finished)
        if claimed.expansions:
            await self._expand(claimed.expansions)
        elif idle and claimed.held and not claimed.claims:
            # Redis lost writes, and holds messages for this worker that were settled.
            state.uncertain = True
        else:
            await self._rest(claimed, answered)

    def _is_first(self, now: float) -> bool:
        """Return whether the next request of a lane with a rate goes alone.

        It has to load the HTTP client or to open a connection. If many messages were claimed with it, they
        would reach the provider together with those that are claimed later: more than its limit allows.
        """
        return self._paces.limited and now - self._claimed_at > self._tuning.cold_after

    async def _wait_for_answer(self, finished: int) -> None:
        """Return when more than `finished` messages have ended, or after `first_answer`."""
        wakeups = self._state.wakeups
        wakeups.clear(SLOT_FREED)
        if self._state.finished == finished:
            await wakeups.wait(SLOT_FREED, self._tuning.first_answer)

    async def _capacity(self) -> int:
        """Wait for free slots. Returns the number of messages to claim."""
        state, tuning = self._state, self._tuning
        while True:
            if state.fault is not None:
                state.raise_fault()
            while len(state.settlements) > max(tuning.unsettled_most, self._slots):
                state.wakeups.clear(SETTLED)
                await state.wakeups.wait(SETTLED)
            capacity = self._free()
            few = min(self._most, self._slots // 4)
            if 0 < capacity < few and state.held and self._frees_as_many(capacity):
                await asyncio.sleep(tuning.linger)
                capacity = self._free()
            if capacity > 0:
                return capacity
            state.wakeups.clear(SLOT_FREED)
            await state.wakeups.wait(SLOT_FREED)

    def _frees_as_many(self, capacity: int) -> bool:
        """Return whether as many slots are freed during the linger, at the rate since the previous call."""
        now, finished = time.monotonic(), self._state.finished
        elapsed, freed = now - self._counted_at, finished - self._counted
        self._counted_at, self._counted = now, finished
        return freed * self._tuning.linger >= capacity * elapsed

    def _free(self) -> int:
        return min(self._most, self._slots + self._prefetch - len(self._state.held))

    async def _claim(self, capacity: int) -> Claimed | None:
        """Returns None if Redis failed: it may have executed the claim, and the reply is lost."""
        self._state.wakeups.clear(ARRIVED)
        try:
            if self._state.uncertain:
                await self._reconcile()
            reserve = self._state.reserve
            shared = reserve.shared(self._state.held, time.monotonic()) if reserve is not None else 0
            return await self._lane.claim(capacity, shared)
        except StoreError as error:
            self._state.uncertain = True
            redis_trouble.log("cannot claim", error, of=self._provider.name)
            return None
        except BaseException:
            self._state.uncertain = True
            raise

    async def _reconcile(self) -> None:
        """Release the messages of claims whose reply was lost."""
        state = self._state
        await self._direct.until_idle()
        unsettled = (settlement.ticket for settlement in state.settlements)
        released = await self._lane.release(keep=(*state.held, *unsettled))
        state.uncertain = False
        if released:
            logger.info(
                "released claims whose reply was lost", messages=released, provider=self._provider.name
            )

    async def _send(self, claims: Iterable[Claim], pace: Pace | None) -> None:
        """Pass the claims to the sender. Releases them if the lane has begun to hold."""
        found = self._sender.batches(claims)
        if pace is not None:
            await self._send_evenly(found, pace)
        elif self._state.hold_left > 0:
            self._sender.release(found)
        else:
            self._sender.send(found)

    async def _send_evenly(self, found: Iterable[Batch], pace: Pace) -> None:
        """Spread the batches evenly in time. Releases the rest if the lane begins to hold."""
        waiting = deque(found)
        try:
            while waiting:
                await pace.wait(len(waiting[0]))
                if self._state.hold_left > 0:
                    return
                self._sender.send([waiting.popleft()])
        finally:
            self._sender.release(waiting)

    async def _expand(self, expansions: Iterable[Expansion]) -> None:
        """Expand chunks of fan-outs into messages. The next claim releases chunks that fail."""
        group_of = grouping(self._provider.options, self._sender.calls.destination)
        failure: Exception | None = None
        try:
            for expansion in expansions:
                try:
                    await self._expand_one(expansion, group_of)
                except StoreError:
                    raise
                except Exception as error:
                    failure = error  # the others can continue
            if failure is not None:
                raise failure
        except StoreError as error:
            self._state.uncertain = True
            redis_trouble.log("cannot expand a fan-out", error, of=self._provider.name)
            await self._state.wakeups.wait(WOKEN, self._tuning.trouble_pause)
        except BaseException:
            self._state.uncertain = True
            raise

    async def _expand_one(self, expansion: Expansion, group_of: Callable[[Message], str] | None) -> None:
        """Expand a chunk. As many of its messages as slots are free may go straight into flight."""
        state, sent = self._state, time.monotonic()
        wanted = max(0, self._free()) if state.hold_left <= 0 else 0
        claims = await self._lane.expand(expansion, group_of, wanted)
        if not claims:
            return
        for claim in claims:
            state.held[claim.ticket] = sent
        await self._send(claims, None)

    async def _rest(self, claimed: Claimed, answered: float) -> None:
        """Wait as long as the reply says, from the time of the reply."""
        tuning = self._tuning
        if claimed.reason == "empty" and claimed.wait is None:
            with self._direct.opened():
                await self._state.wakeups.wait(ARRIVED)
            return
        poll = tuning.idle_poll * random.uniform(0.5, 1)  # noqa: S311 - no secret
        wait = poll if claimed.wait is None else min(claimed.wait, poll)
        if claimed.reason == "rate":
            wait -= min(tuning.timer_slack / 2, wait / 20)
        if (left := answered + wait - time.monotonic()) > 0:
            is_over = claimed.reason in ("empty", "full")
            await self._state.wakeups.wait(ARRIVED if is_over else WOKEN, left)
