"""Fault injection: errors, latency, throttling, silence and broken connections; repeatable with a seed.

This module only decides; the servers act.
"""

from __future__ import annotations

import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from relay.sandbox.exchange import Answer
from relay.sandbox.options import Faults, RequestFaults

REMEMBERED = 10_000
"""Messages whose failures are counted at the same time."""


class Ending(Enum):
    """The end of a request without an answer."""

    HANG = "hang"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Injection:
    """The fault of one request: wait `delay` seconds, then end it, or replace its answer.

    `reason` is the provider's code for the failure, if one was chosen.
    """

    delay: float = 0.0
    answer: Answer | None = None
    reason: str = ""
    ending: Ending | None = None


NO_FAULT = Injection()


class Bucket:
    """A token bucket: `rate` messages per second, bursts of `burst` messages."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._refilled = burst, clock()

    def take(self, messages: int) -> float:
        """Take one token per message and return 0, or take none and return the seconds to wait.

        A full bucket serves a batch larger than `burst` and goes into debt, because otherwise no wait would
        be long enough.
        """
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._rate)
        self._refilled = now
        missing = min(messages, self._burst) - self._tokens
        # Sums of floats miss whole tokens by a rounding error.
        if missing > 1e-9:
            return missing / self._rate
        self._tokens -= messages
        return 0.0


class FaultInjector:
    """Applies the active faults. Replacing them restarts the seeded sequence of choices."""

    def __init__(
        self, faults: Faults, seed: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seed, self._clock = seed, clock
        self.replace(faults)

    def replace(self, faults: Faults) -> None:
        """Replace the active faults."""
        self.faults = faults
        self._none = not faults.model_fields_set
        self._random = random.Random(self._seed)  # noqa: S311 - faults, not secrets
        self._left = math.inf if faults.times is None else faults.times
        self._bucket = None
        if faults.rate_limit is not None:
            rate = faults.rate_limit.per_second
            self._bucket = Bucket(rate, faults.burst or max(10.0, rate / 10), self._clock)

    def decide(self, provider: str, messages: int, gone: int = 0) -> Injection:
        """Decide about a valid request with this many messages.

        `gone` is the provider's status for a target that is gone; 0: it has none.
        """
        faults = self.faults
        if self._none or faults.provider not in (None, provider):
            return NO_FAULT
        delay = self._random.uniform(*faults.latency) if faults.latency[1] else 0.0
        if self._happens(faults.hang):
            return Injection(delay, ending=Ending.HANG)
        if self._happens(faults.reset):
            return Injection(delay, ending=Ending.RESET)
        if self._bucket is not None and (wait := self._bucket.take(messages)):
            return Injection(delay, failure(429, math.ceil(wait)))
        if gone and self._happens(faults.unregistered):
            return Injection(delay, failure(gone, None))
        if self._left and self._happens(faults.failing):
            self._left -= 1
            return Injection(delay, failure(faults.status, faults.retry_after), faults.reason)
        return Injection(delay)

    def _happens(self, share: float) -> bool:
        # No draw for a share of 0, so that it does not change the sequence of other faults.
        return share > 0 and self._random.random() < share


class RequestFaultInjector:
    """Applies the faults that a request asks for, counted by message in bounded memory."""

    def __init__(self) -> None:
        self._served: OrderedDict[str, int] = OrderedDict()

    def decide(self, requested: RequestFaults, message: str) -> Injection:
        """Decide about one request. `message` identifies the attempts that belong together."""
        ending = Ending.HANG if requested.hang else Ending.RESET if requested.reset else None
        if ending is None and requested.status is None:
            return Injection(requested.delay)
        if requested.times is not None:
            served = self._served.pop(message, 0)
            self._served[message] = served + 1
            if len(self._served) > REMEMBERED:
                self._served.popitem(last=False)
            if served >= requested.times:
                return Injection(requested.delay)
        if ending is not None or requested.status is None:
            return Injection(requested.delay, ending=ending)
        return Injection(requested.delay, failure(requested.status, requested.retry_after))


def failure(status: int, retry_after: int | None) -> Answer:
    """Return the answer of an injected failure; `retry_after` is in seconds."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    # HTTP allows no body with these two.
    body = b"" if status in (204, 304) else f"{status}, injected fault".encode()
    return Answer(status, body, headers=headers)
