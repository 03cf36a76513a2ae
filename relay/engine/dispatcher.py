"""Lanes to providers: claims what may go, sends it with a bounded set of senders, settles it.

One `Dispatcher` serves one lane in one process; a slow provider costs another nothing. Two loops work
side by side: the claimer takes messages from the lane as far as slots are free and has them delivered,
and the settler tells Redis how they ended, many in one script. Between them, deliveries go on by calls.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from relay.engine.delivery import Delivery
from relay.engine.pacing import Pace
from relay.engine.parts import Parts
from relay.engine.policy import LONGEST_HOLD, Entry, Settler
from relay.engine.repeats import redis_trouble, thinned
from relay.errors import StoreError
from relay.outcome import Delivered, Outcome, Throttled
from relay.provider import Provider
from relay.settings.options import ProviderOptions
from relay.store.lane import Claim, Expansion, Hold, Lane, Settled

CLAIM_MOST = 100
"""Messages that one claim asks for at most: keeps the script well under a millisecond."""

SETTLE_MOST = 200

UNSETTLED_MOST = 2000
"""Outcomes that may wait until Redis takes them: with more, nothing is claimed. If claims work and settles do
not, each message that goes out will go out again."""

IDLE_POLL = 30.0
"""Seconds between two looks at a lane that nobody called us to, up to half as many less: wake-up calls can
be lost, though seldom."""

GATHER = 0.004
"""Seconds to wait for more while others are under way: a script for each one would cost more than it."""

LATELY = 0.02
"""Seconds since a settle within which more is under way, even where nothing is in flight just now."""

SETTLE_PAUSE = 0.1
"""Seconds before outcomes that Redis did not take are offered again."""

UNKNOWN_WAIT = 1.0
"""Seconds for which to stop at once where the provider does not say how long; then Redis knows."""

TICK = 0.001
"""Seconds that a timer is off by: for a token it is better to look twice than to come too late."""

NO_LEASE_PAUSE = 0.2
"""Seconds after which a worker that has claimed nothing, as it may count as dead, looks again."""

Batch = list[Claim]

logger = structlog.get_logger()


class Dispatcher:
    """The loops of one lane. `run` returns when it is cancelled; `drain` ends it gently first."""

    def __init__(
        self,
        lane: Lane,
        provider: Provider[ProviderOptions],
        *,
        on_letters: Callable[[], None],
        holds_lease: Callable[[float], bool] = lambda since: True,
        parts: Parts | None = None,
    ) -> None:
        """`on_letters` is called when there are receipts or feedback in the lane's outbox. `holds_lease` says
        whether nobody can have taken this worker for dead since a moment (monotonic seconds). `parts` starts
        a loop that fails again."""
        options = provider.options
        self.lane = lane
        self.provider = provider
        self._settler = Settler(options)
        # With a rate for each destination there is none for all, and Redis spaces what it lets go.
        rates = () if options.each_destination else options.rate
        self._pace = Pace(rates, provider.batch_size) if rates else None
        self._deliveries_most = options.concurrency
        self.slots = options.concurrency * provider.batch_size
        self._on_letters = on_letters
        self._holds_lease = holds_lease
        self._log = logger.bind(provider=provider.name)
        self._delivery = Delivery(provider)
        self._destination = self._delivery.destination if options.each_destination else None
        self._part = f"lane {provider.name}"
        self._parts = parts or Parts()
        self._claimer: asyncio.Task[None] | None = None
        self._ready: deque[Batch] = deque()
        self._under_way: dict[str, Batch] = {}
        """By the ticket of its first message."""
        self._fault: Exception | None = None
        """A failure in a callback, which the claimer raises in its place: so it is logged, and followed by a
        wait that grows."""
        # Tickets by when their claim was asked for, in monotonic seconds.
        self._held: dict[str, float] = {}
        self._entries: list[Entry] = []
        self._hold: Hold | None = None
        """What Redis has still to be told: until then nobody else knows that the lane holds."""
        self._awaited = False
        """Whether what is to be settled lets another message go."""
        self._state = ""
        self._held_until = 0.0
        self._waiting_for: dict[str, float] = {}
        self._finished = 0
        self._unsure = False
        self._suspects = 0
        """How many of the first entries go to Redis one at a time: one of them cannot be settled."""
        self._arrived = asyncio.Event()
        self._kicked = asyncio.Event()
        self._freed = asyncio.Event()
        self._outcomes = asyncio.Event()
        self._settled = asyncio.Event()

    async def run(self) -> None:
        """Serve the lane until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._claimer = tasks.create_task(self._parts.keep(self._part, self._claim_forever))
                tasks.create_task(self._parts.keep(self._part, self._settle_forever))
        finally:
            await self._delivery.close()

    def arrived(self) -> None:
        """A script that is asked now finds something in the lane: look at once if it was empty."""
        self._arrived.set()

    def kick(self) -> None:
        """The lane was resumed or refilled: look at once, whatever it said before."""
        if self._hold is None:
            self._held_until = 0.0
        self._kicked.set()
        self._arrived.set()

    async def drain(self) -> None:
        """Claim no more, hand back what was not sent, and return when all else is settled."""
        if self._claimer is not None:
            while not self._claimer.done():
                self._claimer.cancel()
                await asyncio.wait([self._claimer], timeout=1)
        self._hand_back_ready()
        while self._held or self._entries:
            self._settled.clear()
            await self._settled.wait()

    # Claiming

    async def _claim_forever(self) -> None:
        """May be run again after it has failed: deliveries under way are not affected."""
        try:
            await self._claim_on_and_on()
        finally:
            self._drop_strays()

    def _drop_strays(self) -> None:
        """Let go of messages that a failed step had in hand: the next claim hands them back first."""
        known = {claim.ticket for batch in (*self._ready, *self._under_way.values()) for claim in batch}
        if len(known) < len(self._held):
            self._held = {ticket: asked for ticket, asked in self._held.items() if ticket in known}
            self._unsure = True
            self._settled.set()

    async def _claim_on_and_on(self) -> None:
        while True:
            finished = self._finished
            room = await self._room()
            self._kicked.clear()
            if (left := self._held_until - time.monotonic()) > 0:
                await _pause(self._kicked, left)
                continue
            asked = time.monotonic()
            if not self._holds_lease(asked):
                await _pause(self._kicked, NO_LEASE_PAUSE)
                continue
            idle = not self._held and not self._entries
            try:
                self._arrived.clear()
                if self._unsure:
                    await self._reconcile()
                claimed = await self.lane.claim(room)
            except StoreError as error:
                # The claim may have been made and its answer lost.
                self._unsure = True
                redis_trouble.log("cannot claim", error, of=self.provider.name)
                await _pause(self._kicked, 1.0)
                continue
            except BaseException:
                self._unsure = True
                raise
            answered = time.monotonic()
            self._ahead = min(self.slots, 2 * (self._finished - finished))
            if claimed.passed_over:
                self._on_letters()
            for claim in claimed.claims:
                self._held[claim.ticket] = asked
            await self._feed(claimed.claims)
            if claimed.expansions:
                await self._expand(claimed.expansions)
                continue
            if idle and claimed.held and not claimed.claims:
                # Redis went back in time and holds for us what we have settled.
                self._unsure = True
                continue
            # Spreading what was claimed takes time that counts as waiting.
            poll = IDLE_POLL * random.uniform(0.5, 1)  # noqa: S311 - no secret
            wait = poll if claimed.wait is None else min(claimed.wait, poll)
            if claimed.why == "rate":
                wait -= min(TICK / 2, wait / 20)
            if (left := answered + wait - time.monotonic()) > 0:
                await _pause(self._arrived if claimed.why == "empty" else self._kicked, left)

    async def _expand(self, expansions: Iterable[Expansion]) -> None:
        """Make messages of chunks of fan-outs; what cannot be done now is handed back."""
        failure: Exception | None = None
        try:
            for expansion in expansions:
                try:
                    await self.lane.expand(expansion, self._destination)
                except StoreError:
                    raise
                except Exception as error:
                    failure = error  # of this one; the others can do without it
            if failure is not None:
                raise failure
        except StoreError as error:
            self._unsure = True
            redis_trouble.log("cannot expand a fan-out", error, of=self.provider.name)
            await _pause(self._kicked, 1.0)
        except BaseException:
            self._unsure = True
            raise

    _ahead = 0
    """Messages to claim beyond the free slots: as many as finish until the next claim is answered."""

    async def _room(self) -> int:
        while True:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            while len(self._entries) > max(UNSETTLED_MOST, self.slots):
                self._settled.clear()
                await self._settled.wait()
            room = min(CLAIM_MOST, self.slots + self._ahead - len(self._held))
            if room > 0 and self._held and room < min(CLAIM_MOST, self.slots // 4):
                await asyncio.sleep(GATHER)
                room = min(CLAIM_MOST, self.slots + self._ahead - len(self._held))
            if room > 0:
                return room
            self._freed.clear()
            await self._freed.wait()

    async def _reconcile(self) -> None:
        """Give back what a claim took for us without our hearing of it."""
        unsettled = (str(entry[0]) for entry in self._entries)
        returned = await self.lane.release(keep=(*self._held, *unsettled))
        self._unsure = False
        if returned:
            self._log.info("released claims whose reply was lost", messages=returned)

    async def _feed(self, claims: Iterable[Claim]) -> None:
        batches = deque(self._batches(claims))
        try:
            while batches:
                if self._pace is not None:
                    await self._pace.wait(len(batches[0]))
                if self._held_until and time.monotonic() < self._held_until:
                    return
                self._ready.append(batches.popleft())
                self._send_ready()
        finally:
            for batch in batches:
                self._hand_back(batch)

    def _batches(self, claims: Iterable[Claim]) -> Iterable[Batch]:
        """Messages of one group travel together, in their order, as far as a batch goes."""
        size = self.provider.batch_size
        open_batches: dict[object, Batch] = {}
        for claim in claims:
            refused = self._delivery.refusal(claim.message)
            if refused is not None:
                entry = self._settler.settle(claim, refused).entry
                self._report_end(claim, entry)
                self._finish([claim], [entry])
                continue
            group = None if size == 1 or claim.alone else self._delivery.group(claim.message)
            if group is None:
                yield [claim]
                continue
            batch = open_batches.setdefault(group, [])
            batch.append(claim)
            if len(batch) == size:
                yield open_batches.pop(group)
        yield from open_batches.values()

    # Sending

    def _send_ready(self) -> None:
        while self._ready and len(self._under_way) < self._deliveries_most:
            batch = self._still_to_send(self._ready.popleft())
            if batch:
                self._under_way[batch[0].ticket] = batch
                try:
                    self._delivery.begin([claim.message for claim in batch], partial(self._ended, batch))
                except Exception:
                    del self._under_way[batch[0].ticket]
                    raise

    def _ended(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        del self._under_way[batch[0].ticket]
        try:
            self._settle(batch, outcomes)
            self._send_ready()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Report a bug in a callback, which would go unnoticed otherwise."""
        if self._claimer is None or self._claimer.done():
            self._drop_strays()
            self._parts.failed(self._part, error, 0)
        else:
            self._fault = error
            for event in (self._freed, self._arrived, self._kicked):
                event.set()

    def _settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        entries: list[Entry] = []
        hold: Hold | None = None
        for claim, outcome in zip(batch, outcomes, strict=True):
            if not claim.plain and claim.message.ordering_key:
                self._awaited = True
            if isinstance(outcome, Delivered):
                entries.append(self._settler.delivered(claim))
                continue
            settlement = self._settler.settle(claim, outcome)
            entries.append(settlement.entry)
            self._report_end(claim, settlement.entry)
            hold = hold or settlement.hold
            if isinstance(outcome, Throttled) and claim.message.destination:
                # Redis stops the rest of the fleet; what we have in hand stops here.
                wait = UNKNOWN_WAIT if outcome.after is None else min(outcome.after, LONGEST_HOLD)
                self._waiting_for[claim.message.destination] = time.monotonic() + wait
        if hold is not None:
            self._hold_here(hold)
        self._finish(batch, entries)

    def _still_to_send(self, batch: Batch) -> Batch:
        """What is still ours and alive at the last moment, and goes where nothing asked us to wait."""
        # One claim handed them all out.
        if not self._holds_lease(self._held[batch[0].ticket]):
            # Others may have it by now. If not, it comes back.
            self._hand_back(batch)
            return []
        for claim in batch:
            if claim.message.expires_at or self._waiting_for:
                now = self.provider.clock()
                return [claim for claim in batch if self._may_go(claim, now)]
        return batch

    def _may_go(self, claim: Claim, now: float) -> bool:
        if 0 < claim.message.expires_at <= now:
            entry = self._settler.expired(claim)
            self._report_end(claim, entry)
            self._finish([claim], [entry])
            return False
        if self._waiting_for and self._waits(claim.message.destination):
            self._hand_back([claim])
            return False
        return True

    def _waits(self, destination: str) -> bool:
        until = self._waiting_for.get(destination, 0.0)
        if until and until <= time.monotonic():
            del self._waiting_for[destination]
        return until > time.monotonic()

    # Settling

    def _finish(self, batch: Batch, entries: Iterable[Entry]) -> None:
        for claim in batch:
            del self._held[claim.ticket]
        self._finished += len(batch)
        if not self._entries:
            self._outcomes.set()
        self._entries += entries
        self._freed.set()

    def _hold_here(self, hold: Hold) -> None:
        """Stop sending at once in this process; the settle stops the rest of the fleet."""
        self._hold = hold
        self._held_until = time.monotonic() + (UNKNOWN_WAIT if hold.seconds is None else hold.seconds)
        self._hand_back_ready()

    def _hand_back_ready(self) -> None:
        while self._ready:
            self._hand_back(self._ready.popleft())

    def _hand_back(self, batch: Batch) -> None:
        self._finish(batch, [self._settler.hand_back(claim) for claim in batch])

    async def _settle_forever(self) -> None:
        forever = AsyncRetrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            before_sleep=lambda state: self._warn(state.outcome.exception() if state.outcome else None),
        )
        last = 0.0
        while True:
            if not self._entries:
                self._outcomes.clear()
                await self._outcomes.wait()
            more = self._held or (time.monotonic() - last < LATELY and not self._awaited)
            if more and len(self._entries) < SETTLE_MOST:
                await asyncio.sleep(GATHER)
            entries, hold = self._entries[: 1 if self._suspects else SETTLE_MOST], self._hold
            self._awaited = False
            try:
                settled = await self.lane.settle(entries, hold)
            except StoreError as error:
                self._warn(error)
                await asyncio.sleep(SETTLE_PAUSE)
                settled = await forever(self.lane.settle, entries, hold)
            except Exception:
                self._suspect(entries)
                raise
            last = time.monotonic()
            if self._hold is hold:
                self._hold = None
            del self._entries[: len(entries)]
            self._suspects = max(0, self._suspects - 1)
            self._settled.set()
            if "r" in [entry[2] for entry in entries]:
                # The claimer has to hear when the retries are due.
                self._arrived.set()
            self._apply(settled)

    def _suspect(self, entries: Sequence[Entry]) -> None:
        """Find the entry that cannot be settled. Its message goes back to the lane."""
        if len(entries) > 1:
            self._suspects = len(entries)
            return
        del self._entries[: len(entries)]
        self._suspects = max(0, self._suspects - 1)
        self._unsure = True
        for event in (self._settled, self._arrived, self._kicked):
            event.set()

    def _warn(self, error: BaseException | None) -> None:
        redis_trouble.log("cannot settle", error, of=self.provider.name)

    def _apply(self, settled: Settled) -> None:
        if settled.stale:
            self._log.info("outcomes came too late; other workers have the messages", messages=settled.stale)
        if settled.state != self._state:
            self._report(settled)
        if settled.state or self._state:
            # The reason for which the claimer waits no longer applies.
            self._kicked.set()
        self._state = settled.state
        if settled.state and settled.hold > 0:
            self._held_until = time.monotonic() + settled.hold
            self._hand_back_ready()
        elif not settled.state and self._hold is None:
            self._held_until = 0.0
        if settled.outbox:
            self._on_letters()
        if settled.ready:
            self._arrived.set()

    def _report(self, settled: Settled) -> None:
        name = self.provider.name
        if not settled.state:
            thinned.log("info", "the provider is served again", name, "", provider=name)
            return
        fields = {"provider": name, "state": settled.state, "seconds": settled.hold}
        if settled.state == "unauthorised":
            event = "THE PROVIDER REFUSES OUR CREDENTIALS: its lane holds until they are fixed"
            thinned.log("error", event, name, settled.why, **fields)
        else:
            thinned.log("warning", "the lane holds", name, settled.why, **fields)

    def _report_end(self, claim: Claim, entry: Entry) -> None:
        """Log a message that will not be delivered."""
        name = self.provider.name
        match entry[2]:
            case "x":
                thinned.log("warning", "dead letter", name, str(entry[3]), provider=name, id=claim.message.id)
            case "u":
                event = "the target is unregistered"
                thinned.log("warning", event, name, str(entry[3]), provider=name, id=claim.message.id)
            case "e":
                thinned.log(
                    "info", "expired before it was sent", name, "", provider=name, id=claim.message.id
                )


async def _pause(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, which is set after so many seconds at the latest."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
