"""Spreads what was claimed evenly in time, so that a receiver sees a stream and not a comb."""

from __future__ import annotations

from collections.abc import Sequence

from aiolimiter import AsyncLimiter

from relay.settings.values import Rate

GRAIN = 0.01
"""Seconds: what may leave together. Below it, timers cost more than evenness is worth."""

HEADROOM = 1.1
"""How much faster than the rate a claimed batch may leave: makes up for the claim's own time."""

LATENESS = 0.005
"""Seconds by which a timer may fire late at no cost: what could have left meanwhile still may. Without it a
loop whose timers tick in milliseconds is slower than the rate, where batches are some 10 ms apart."""


class Pace:
    """The pace of one lane in one process. The fleet-wide limit is kept by the claim, not here."""

    def __init__(self, rates: Sequence[Rate], batch_size: int) -> None:
        """`batch_size` messages travel in one request and so leave together."""
        self._limiter: AsyncLimiter | None = None
        if rates:
            per_second = min(rate.per_second for rate in rates)
            together = max(1.0, batch_size, per_second * GRAIN)
            together += per_second * LATENESS
            self._limiter = AsyncLimiter(together, together / (per_second * HEADROOM))

    async def wait(self, messages: int) -> None:
        """Return when so many messages (at most a batch) may leave."""
        if self._limiter is not None:
            await self._limiter.acquire(messages)
