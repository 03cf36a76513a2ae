"""Spreads claimed messages evenly in time, so that a provider receives no bursts."""

from __future__ import annotations

from collections.abc import Sequence

from aiolimiter import AsyncLimiter

from relay.settings.values import Rate

GRAIN = 0.01
"""Messages within this many seconds may be sent together, because finer timers cost more than they gain."""

HEADROOM = 1.1
"""Claimed messages are sent faster than the rate by this factor, to make up for the time of the claim."""

LATENESS = 0.005
"""A timer may fire this many seconds late at no loss, because the messages of that time may be sent with the
next ones. Otherwise timers with a resolution of milliseconds lower the rate if batches are 10 ms apart."""


class Pace:
    """The pace of one lane in one process. Claims enforce the limit of the whole fleet."""

    def __init__(self, per_second: float, batch_size: int) -> None:
        """`batch_size` messages are sent together in one request."""
        together = max(1.0, batch_size, per_second * GRAIN)
        together += per_second * LATENESS
        self._limiter = AsyncLimiter(together, together / (per_second * HEADROOM))

    async def wait(self, messages: int) -> None:
        """Return when this number of messages (at most a batch) may be sent."""
        await self._limiter.acquire(messages)


class Paces:
    """The pace of a lane under its configured rates, or under those of an operator."""

    def __init__(self, rates: Sequence[Rate], batch_size: int) -> None:
        self._batch_size = batch_size
        self._configured = Pace(min(rate.per_second for rate in rates), batch_size) if rates else None
        self._override: float | None = None
        self._current = self._configured

    @property
    def limited(self) -> bool:
        """Whether the last claim was under a rate, as far as it is known."""
        return self._current is not None

    def at(self, override: float | None) -> Pace | None:
        """Return the pace under an override (messages per second) or without one; None if unlimited."""
        if override != self._override:
            self._override = override
            self._current = self._configured if override is None else Pace(override, self._batch_size)
        return self._current
