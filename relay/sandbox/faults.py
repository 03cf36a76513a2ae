"""Trouble by order: errors, latency, throttling, silence, broken connections; repeatable by a seed.

Here it is only decided what goes wrong; a server does it.
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
"""Messages whose failures are counted at a time."""


class Ending(Enum):
    """How a request ends that gets no answer."""

    HANG = "hang"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a request suffers: `delay` in seconds, then an ending or an answer in place of the right one.

    `reason` is the word that was ordered for the answer.
    """

    delay: float = 0.0
    answer: Answer | None = None
    reason: str = ""
    ending: Ending | None = None


NO_TROUBLE = Trouble()


class Bucket:
    """A token bucket: `rate` messages a second, `burst` of them at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._refilled = burst, clock()

    def take(self, messages: int) -> float:
        """Take the tokens of these messages; else the seconds until they would be there.

        A full bucket serves even a batch that is larger than itself, and then owes: otherwise no wait
        would ever be long enough.
        """
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._rate)
        self._refilled = now
        missing = min(messages, self._burst) - self._tokens
        # Sums of floats fall short of whole tokens by a hair.
        if missing > 1e-9:
            return missing / self._rate
        self._tokens -= messages
        return 0.0


class Troublemaker:
    """Applies the faults in force. Each order begins the seed's sequence of choices anew."""

    def __init__(
        self, faults: Faults, seed: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seed, self._clock = seed, clock
        self.order(faults)

    def order(self, faults: Faults) -> None:
        """Replace the faults that are in force."""
        self.faults = faults
        self._none = not faults.model_fields_set
        self._random = random.Random(self._seed)  # noqa: S311 - faults, not secrets
        self._left = math.inf if faults.times is None else faults.times
        self._bucket = None
        if faults.rate_limit is not None:
            rate = faults.rate_limit.per_second
            self._bucket = Bucket(rate, faults.burst or max(10.0, rate / 10), self._clock)

    def decide(self, provider: str, messages: int, gone: int = 0) -> Trouble:
        """What happens to one right request of so many messages. `gone`: how the provider says that a
        target is; 0: it cannot."""
        faults = self.faults
        if self._none or faults.provider not in (None, provider):
            return NO_TROUBLE
        delay = self._random.uniform(*faults.latency) if faults.latency[1] else 0.0
        if self._happens(faults.hang):
            return Trouble(delay, ending=Ending.HANG)
        if self._happens(faults.reset):
            return Trouble(delay, ending=Ending.RESET)
        if self._bucket is not None and (wait := self._bucket.take(messages)):
            return Trouble(delay, failure(429, math.ceil(wait)))
        if gone and self._happens(faults.unregistered):
            return Trouble(delay, failure(gone, None))
        if self._left and self._happens(faults.failing):
            self._left -= 1
            return Trouble(delay, failure(faults.status, faults.retry_after), faults.reason)
        return Trouble(delay)

    def _happens(self, share: float) -> bool:
        # No draw for what cannot happen: another fault's sequence stays the same without it.
        return share > 0 and self._random.random() < share


class RequestTroublemaker:
    """Applies what a request orders for itself, counted by message in bounded memory."""

    def __init__(self) -> None:
        self._served: OrderedDict[str, int] = OrderedDict()

    def decide(self, order: RequestFaults, message: str) -> Trouble:
        """What happens to one request; `message` tells the requests of one message from others'."""
        ending = Ending.HANG if order.hang else Ending.RESET if order.reset else None
        if ending is None and order.status is None:
            return Trouble(order.delay)
        if order.times is not None:
            served = self._served.pop(message, 0)
            self._served[message] = served + 1
            if len(self._served) > REMEMBERED:
                self._served.popitem(last=False)
            if served >= order.times:
                return Trouble(order.delay)
        if ending is not None or order.status is None:
            return Trouble(order.delay, ending=ending)
        return Trouble(order.delay, failure(order.status, order.retry_after))


def failure(status: int, retry_after: int | None) -> Answer:
    """An ordered answer; `retry_after` in seconds."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    # These two have no body in HTTP.
    body = b"" if status in (204, 304) else f"{status}, as ordered".encode()
    return Answer(status, body, headers=headers)
