"""Serves one lane in one process: claims messages, sends them, settles them.

    claimer ──batches──▶ sender ──settlements──▶ settler
       ▲                                            │
       └────────── LaneState: hold, wake-ups ◀──────┘

A slow provider costs other lanes nothing. The claimer and the settler are loops; between them, deliveries
continue by callbacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.engine.adapter_calls import AdapterCalls
from relay.engine.claimer import Claimer, ClaimTuning
from relay.engine.direct_claims import DirectClaims
from relay.engine.lane_state import ARRIVED, SETTLED, WOKEN, LaneState
from relay.engine.parts import Parts
from relay.engine.recorder import LaneRecorder
from relay.engine.sender import Sender
from relay.engine.settler import Settler, SettleTuning
from relay.engine.slot_reserve import SlotReserve
from relay.provider import Provider
from relay.settings.options import ProviderOptions
from relay.store.lane import Lane


class Dispatcher:
    """The loops of one lane. `run` returns when it is cancelled. `drain` comes first in an orderly end."""

    def __init__(
        self,
        lane: Lane,
        provider: Provider[ProviderOptions],
        *,
        on_outbox: Callable[[], None],
        lease_valid_since: Callable[[float], bool] = lambda since: True,
        parts: Parts | None = None,
        claiming: ClaimTuning | None = None,
        settling: SettleTuning | None = None,
        recorder: LaneRecorder | None = None,
        calls: AdapterCalls | None = None,
    ) -> None:
        """`on_outbox` is called when the outbox has entries. `lease_valid_since` returns whether no other
        worker can have declared this one dead since a time (in monotonic seconds). `parts` restarts a loop
        that fails. `recorder` counts the attempts. `calls` makes them; None: without spans."""
        self.slots = provider.options.concurrency * provider.batch_size
        self._part = f"lane {provider.name}"
        self._parts = parts or Parts()
        self._state = LaneState(SlotReserve(self.slots) if provider.options.group_rules else None)
        self._recorder = recorder or LaneRecorder(provider.options)
        self._sender = Sender(
            provider,
            self._state,
            lease_valid_since=lease_valid_since,
            on_fault=self._fail,
            recorder=self._recorder,
            calls=calls,
        )
        self.direct = DirectClaims(
            lane,
            self._state,
            self._sender,
            self.slots,
            lease_valid_since=lease_valid_since,
            on_fault=self._fail,
        )
        self._claimer = Claimer(
            lane,
            provider,
            self._state,
            self._sender,
            self.direct,
            lease_valid_since=lease_valid_since,
            on_outbox=on_outbox,
            tuning=claiming or ClaimTuning(),
        )
        self._settler = Settler(
            lane,
            self._state,
            on_outbox=on_outbox,
            on_hold=self._sender.release_ready,
            tuning=settling or SettleTuning(),
        )
        self._claiming: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """The number of messages that are claimed and not settled yet."""
        return len(self._state.held) + len(self._state.settlements)

    async def run(self) -> None:
        """Serve the lane until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._claiming = tasks.create_task(self._parts.keep(self._part, self._claimer.run))
                tasks.create_task(self._parts.keep(self._part, self._settler.run))
        finally:
            await self._sender.close()

    def notify(self) -> None:
        """Messages have arrived: claim immediately if the lane was empty."""
        self._recorder.is_at_rest = False
        self._state.wakeups.notify(ARRIVED)

    def wake(self) -> None:
        """The lane was resumed or refilled: claim immediately, unless it has a hold unknown to Redis."""
        self._recorder.is_at_rest = False
        if self._state.hold is None:
            self._state.held_until = 0.0
        self._state.wakeups.notify(WOKEN | ARRIVED)

    async def drain(self, on_settled: Callable[[], None] = lambda: None) -> None:
        """Stop claims, release messages that are not sent yet, and return when all others are settled.

        `on_settled` is called after each settle, because other workers may then claim the released messages,
        and more messages of their groups.
        """
        if self._claiming is not None:
            while not self._claiming.done():
                self._claiming.cancel()
                await asyncio.wait([self._claiming], timeout=1)
        self._sender.release_ready()
        while self._state.held or self._state.settlements:
            self._state.wakeups.clear(SETTLED)
            await self._state.wakeups.wait(SETTLED)
            on_settled()

    def _fail(self, error: Exception) -> None:
        """Report a bug in a callback."""
        if self._claiming is None or self._claiming.done():
            self._state.drop_unknown(self._sender.tickets())
            self._parts.failed(self._part, error, 0)
        else:
            self._state.fail(error)
