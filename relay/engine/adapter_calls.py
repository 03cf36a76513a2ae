"""One call of an adapter. Whatever it does, each message has an outcome afterwards."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Hashable, Sequence
from http import HTTPStatus

import msgspec

from relay import tasks
from relay.engine.repeats import thinned
from relay.errors import Exhausted, TransportError
from relay.http.reasons import has_no_descriptor, is_exhaustion
from relay.http.transport import PendingRequest, ProxyCredentialsRequired, Unsendable
from relay.message import Message
from relay.outcome import (
    Delivered,
    Failure,
    Faulty,
    Isolate,
    Outcome,
    Postponed,
    Rejected,
    Retry,
    Unauthorised,
)
from relay.provider import HttpProvider, Provider, Response
from relay.settings.options import ProviderOptions

GRACE = 1.0
"""Seconds that a delivery may take beyond its timeout before it is cut off from outside."""

UNKNOWN_DESTINATION = "?"
"""Where messages go whose destination the adapter failed to name: they share one rate."""

FAULTS = (Exception, SystemExit, asyncio.CancelledError)
"""Exceptions that a call of an adapter may raise. A CancelledError in a callback leaked from a library,
because callbacks are never cancelled."""


OnEnd = Callable[[Sequence[Outcome]], None]

_UnderWay = tuple[Sequence[Message], OnEnd, float]
"""The messages of a delivery, the callback for its end, and its deadline in monotonic seconds."""


class AdapterCalls:
    """The deliveries of one provider.

    Answers come by a call: a task that waits for each takes an eighth of what a worker does for a webhook.
    Only what an adapter does in a coroutine of its own has one.
    """

    def __init__(self, provider: Provider[ProviderOptions], *, grace: float = GRACE) -> None:
        """`grace`: seconds beyond the timeout after which a delivery is cut off."""
        self._provider = provider
        self._http: HttpProvider[ProviderOptions] | None = None
        """The adapter, where a delivery is a request and what its answer means, and nothing else."""
        if isinstance(provider, HttpProvider) and type(provider).deliver is HttpProvider.deliver:
            self._http = provider
        self._timeout = provider.options.timeout
        self._grace = grace
        self._under_way: dict[PendingRequest, _UnderWay] = {}
        self._timer: asyncio.TimerHandle | None = None

    def refusal(self, message: Message) -> Rejected | Faulty | None:
        """Why the message cannot be sent; None if it can."""
        try:
            return self._provider.check(message)
        except FAULTS as error:
            self._report("the adapter failed on a message", [message], error)
            return Faulty(f"the adapter failed: {error!r}")

    def group(self, message: Message) -> Hashable:
        """Which messages it may share a batch with; None if it travels alone."""
        try:
            group = self._provider.group(message)
            hash(group)
        except FAULTS as error:
            self._report("the adapter failed to group a message; sending it alone", [message], error)
            return None
        return group

    def destination(self, message: Message) -> str:
        """The host that the message goes to."""
        try:
            return str(self._provider.destination(message))
        except FAULTS as error:
            self._report("the adapter failed to name a message's destination", [message], error)
            return UNKNOWN_DESTINATION

    def start(self, messages: Sequence[Message], on_end: OnEnd) -> None:
        """`on_end` hears how each of them ended, in their order: once, after this has returned."""
        exchange: PendingRequest
        try:
            if self._http is not None:
                exchange = self._http.start_request(messages, self._answered)
            else:
                exchange = tasks.begin(self._deliver(messages), self._ended)
        except FAULTS as error:
            asyncio.get_running_loop().call_soon(on_end, self._failed(messages, error))
            return
        # Each may take equally long, so what began first is due first, and one timer does for all.
        deadline = time.monotonic() + self._timeout + self._grace
        self._under_way[exchange] = (messages, on_end, deadline)
        if self._timer is None:
            self._watch(deadline)

    async def close(self) -> None:
        """Cancel a delivery: its callback is never called."""
        if self._timer is not None:
            self._timer.cancel()
        left, self._under_way = self._under_way, {}
        for exchange in left:
            exchange.cancel()
        ending = [exchange for exchange in left if isinstance(exchange, asyncio.Task)]
        if ending:
            await asyncio.wait(ending)

    async def _deliver(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        try:
            return await self._provider.deliver(messages)
        except (SystemExit, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError(f"the adapter raised {error!r}") from error

    def _answered(self, exchange: PendingRequest, answer: Response | Exception) -> None:
        """The answer to a request is there; what it means is for the adapter to say."""
        delivery = self._under_way.pop(exchange, None)
        if delivery is None:
            return
        messages, on_end, _ = delivery
        assert self._http is not None
        try:
            if isinstance(answer, Exception):
                raise answer
            outcomes = self._one_each(messages, self._http.outcomes(messages, answer))
        except FAULTS as error:
            outcomes = self._failed(messages, error)
        on_end(outcomes)

    def _ended(self, exchange: PendingRequest, ends: Sequence[Outcome] | Exception) -> None:
        """A coroutine of the adapter's has ended."""
        delivery = self._under_way.pop(exchange, None)
        if delivery is None:
            return
        messages, on_end, _ = delivery
        try:
            if isinstance(ends, Exception):
                raise ends
            outcomes = self._one_each(messages, ends)
        except Exception as error:
            outcomes = self._failed(messages, error)
        on_end(outcomes)

    def _one_each(self, messages: Sequence[Message], outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        if len(outcomes) == len(messages):
            for outcome in outcomes:
                if type(outcome) is not Delivered:
                    return [self._well_formed(one, messages) for one in outcomes]
            return outcomes
        name, fault = self._provider.name, f"{len(outcomes)} outcomes for {len(messages)} messages"
        thinned.log("error", "the adapter returned a wrong number of outcomes", name, fault, provider=name)
        return [Faulty(f"the adapter failed: it returned {fault}")] * len(messages)

    def _well_formed(self, outcome: Outcome, messages: Sequence[Message]) -> Outcome:
        """The outcome if it can be sent to Redis. Adapters are not type-checked, so it may be anything."""
        try:
            if not isinstance(outcome, Delivered | Failure):
                raise TypeError(f"{type(outcome).__name__} is no outcome")
            if isinstance(outcome, Isolate) and len(messages) == 1:
                raise ValueError("Isolate is for batches of two or more")
            for name in ("after", "since"):
                if not math.isfinite(getattr(outcome, name, None) or 0):
                    raise ValueError(f"{name}: must be finite")
            return msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=type(outcome))
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            self._report("the adapter returned a malformed outcome", messages, error)
            return Faulty(f"the adapter returned a malformed outcome: {error}")

    def _report(self, event: str, messages: Sequence[Message], error: BaseException) -> None:
        name = self._provider.name
        thinned.log("error", event, name, repr(error), provider=name, id=messages[0].id, exc_info=error)

    def _failed(self, messages: Sequence[Message], error: BaseException) -> Sequence[Outcome]:
        outcome: Outcome
        if isinstance(error, Unsendable):
            outcome = Rejected(str(error))
        elif isinstance(error, ProxyCredentialsRequired):
            outcome = Unauthorised(str(error), HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
        elif isinstance(error, Exhausted) or is_exhaustion(error) or has_no_descriptor():
            outcome = self._postponed(error)
        elif isinstance(error, TransportError | OSError):  # a TimeoutError is an OSError
            outcome = Retry(str(error) or repr(error))
        else:
            self._report("the adapter failed", messages, error)
            outcome = Faulty(f"the adapter failed: {error!r}")
        return [outcome] * len(messages)

    def _postponed(self, error: BaseException) -> Postponed:
        """Our own trouble must neither spend a message's attempts nor open the provider's breaker."""
        name, reason = self._provider.name, str(error) or repr(error)
        thinned.log("warning", "this process cannot send; messages wait", name, reason, provider=name)
        return Postponed(str(error), random.uniform(1, 2))  # noqa: S311

    def _watch(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(left, self._cut_off)

    def _cut_off(self) -> None:
        self._timer = None
        for exchange, (messages, on_end, deadline) in [*self._under_way.items()]:
            if deadline > time.monotonic():
                self._watch(deadline)
                return
            if self._under_way.pop(exchange, None) is not None:
                exchange.cancel()
                on_end([Retry(f"no answer within {self._timeout:g} s")] * len(messages))
