"""Trouble by order: errors, latency, throttling, silence, broken connections; repeatable by a seed."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any

from aiohttp import web

from relay.sandbox.options import Faults, RequestFaults
from relay.settings.types import Rate

HANG = 3600.0
"""Seconds that a hanging request is kept, unless the client leaves."""


class Troublemaker:
    """Applies the faults. `seed` makes the sequence of its choices repeatable."""

    def __init__(self, faults: Faults, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self.order(faults)

    def order(self, faults: Faults) -> None:
        """Replace the faults that are in force."""
        self.faults = faults
        self._left = faults.times
        self._tokens = self._burst
        self._refilled = time.monotonic()

    async def trouble(self, request: web.Request, provider: str, messages: int) -> web.StreamResponse | None:
        """The answer to give instead of the right one; None if all goes well."""
        faults = self.faults
        if faults.provider not in (None, provider):
            return None
        if faults.latency[1]:
            await asyncio.sleep(self._random.uniform(*faults.latency))
        if self._random.random() < faults.hang:
            await asyncio.sleep(HANG)
        if self._random.random() < faults.reset:
            return await _broken(request)
        if faults.rate_limit is not None and (wait := self._throttle(faults.rate_limit, messages)):
            return _answer(429, "Too Many Requests", wait)
        if self._left != 0 and (self._random.random() < faults.fail or (faults.times and not faults.fail)):
            if self._left is not None:
                self._left -= 1
            return _answer(faults.status, "ordered failure", faults.retry_after)
        return None

    @property
    def _burst(self) -> float:
        """A tenth of a second's worth, and never less than one batch."""
        return max(10.0, self.faults.rate_limit.per_second / 10) if self.faults.rate_limit else 0.0

    def _throttle(self, rate: Rate, messages: int) -> int | None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * rate.per_second)
        self._refilled = now
        if self._tokens >= messages:
            self._tokens -= messages
            return None
        return math.ceil((messages - self._tokens) / rate.per_second)


def _answer(status: int, text: str, retry_after: int | None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.Response(status=status, text=text, headers=headers)


async def _broken(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    if request.transport is not None:
        request.transport.abort()
    return response


class RequestTrouble:
    """Applies what webhooks' own URLs order, counted by message id in bounded memory."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}

    async def trouble(self, request: web.Request, message_id: str) -> web.Response | None:
        """The answer that the query orders; None if it orders none. Raises pydantic's ValidationError."""
        if not request.query:
            return None
        order: Any = RequestFaults.model_validate(dict(request.query))
        if order.delay:
            await asyncio.sleep(order.delay)
        if order.status < 300:
            return None
        served = self._served.get(message_id, 0)
        if order.times is not None:
            if served >= order.times:
                return None
            if len(self._served) > 10_000:
                self._served.clear()
            self._served[message_id] = served + 1
        return _answer(order.status, "as ordered", order.retry_after)
