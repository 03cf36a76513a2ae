"""Calls of an adapter. Each message gets exactly one outcome, even if the adapter fails or hangs."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
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
from relay.provider.base import Repeat
from relay.settings.options import ProviderOptions

GRACE = 1.0
"""Seconds beyond its timeout after which a delivery is cancelled."""

UNKNOWN_DESTINATION = "?"
"""The destination of messages for which the adapter failed to name one: they share one group."""

FAULTS = (Exception, SystemExit, asyncio.CancelledError)
"""Exceptions that an adapter may raise. A CancelledError in a callback comes from a library, because
callbacks are never cancelled."""


OnEnd = Callable[[Sequence[Outcome], float, int], None]
"""Gets the outcomes, the start of the request in monotonic seconds (0: none was made) and the HTTP status of
the answer (0: unknown)."""

_Delivery = tuple[Sequence[Message], OnEnd, float]
"""The messages of a delivery, the callback for its end, and its deadline in monotonic seconds. A plain tuple,
because it is built for each request."""


class AdapterCalls:
    """The deliveries of one provider.

    Responses arrive by callback, because a task for each one would take an eighth of a worker's time per
    webhook. Only an adapter with a coroutine of its own gets a task, and one that has to wait or to repeat a
    request.
    """

    def __init__(self, provider: Provider[ProviderOptions], *, grace: float = GRACE) -> None:
        """`grace`: see `GRACE`."""
        self._provider = provider
        self._http: HttpProvider[ProviderOptions] | None = None
        """The adapter, if each of its deliveries is exactly one HTTP request."""
        if isinstance(provider, HttpProvider) and provider.is_one_request:
            self._http = provider
        self._timeout = provider.options.timeout
        self._limit = provider.options.timeout + grace
        """Seconds after which a delivery is cancelled."""
        self._in_progress: dict[PendingRequest, _Delivery] = {}
        self._timer: asyncio.TimerHandle | None = None

    def refusal(self, message: Message) -> Rejected | Faulty | None:
        """Return why the adapter cannot send a message, or None if it can."""
        try:
            return self._provider.check(message)
        except FAULTS as error:
            self._report("the adapter failed on a message", [message], error)
            return Faulty(f"the adapter failed: {error!r}")

    def group(self, message: Message) -> Hashable:
        """Return the key of messages that may share a batch with this one; None if none may."""
        try:
            group = self._provider.group(message)
            hash(group)
        except FAULTS as error:
            self._report("the adapter failed to group a message; sending it alone", [message], error)
            return None
        return group

    def destination(self, message: Message) -> str:
        """Return the host that receives a message."""
        try:
            return str(self._provider.destination(message))
        except FAULTS as error:
            self._report("the adapter failed to name a message's destination", [message], error)
            return UNKNOWN_DESTINATION

    def start(self, messages: Sequence[Message], on_end: OnEnd) -> None:
        """Send messages as one batch. `on_end` is called once, later, with one outcome for each, in order."""
        pending: PendingRequest | None = None
        try:
            if self._http is not None:
                pending = self._http.start_request(messages, self._answered)
            if pending is None:
                pending = tasks.start(self._in_task(self._provider.deliver(messages)), self._ended)
        except FAULTS as error:
            asyncio.get_running_loop().call_soon(on_end, self._failed(messages, error), 0.0, 0)
            return
        self._add(pending, messages, on_end)

    def _add(self, pending: PendingRequest, messages: Sequence[Message], on_end: OnEnd) -> None:
        # All have the same timeout, so the oldest is due first and one timer is enough.
        deadline = time.monotonic() + self._limit
        self._in_progress[pending] = (messages, on_end, deadline)
        if self._timer is None:
            self._watch(deadline)

    async def close(self) -> None:
        """Cancel all deliveries: their callbacks are not called."""
        if self._timer is not None:
            self._timer.cancel()
        left, self._in_progress = self._in_progress, {}
        for pending in left:
            pending.cancel()
        ending = [pending for pending in left if isinstance(pending, asyncio.Task)]
        if ending:
            await asyncio.wait(ending)

    async def _in_task(self, delivery: Awaitable[Sequence[Outcome]]) -> Sequence[Outcome]:
        try:
            return await delivery
        except (SystemExit, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError(f"the adapter raised {error!r}") from error

    def _answered(self, pending: PendingRequest, answer: Response | Exception) -> None:
        """A request has a response; the adapter turns it into outcomes."""
        delivery = self._in_progress.pop(pending, None)
        if delivery is None:
            return
        messages, on_end, deadline = delivery
        assert self._http is not None
        if isinstance(answer, Repeat):
            again = tasks.start(self._in_task(self._http.deliver_again(messages)), self._ended)
            self._add(again, messages, on_end)
            return
        status = 0
        try:
            if isinstance(answer, Exception):
                raise answer
            status = answer.status
            outcomes = self._checked(messages, self._http.outcomes(messages, answer))
        except FAULTS as error:
            outcomes = self._failed(messages, error)
        on_end(outcomes, deadline - self._limit, status)

    def _ended(self, pending: PendingRequest, ends: Sequence[Outcome] | Exception) -> None:
        """A coroutine of the adapter has ended."""
        delivery = self._in_progress.pop(pending, None)
        if delivery is None:
            return
        messages, on_end, deadline = delivery
        try:
            if isinstance(ends, Exception):
                raise ends
            outcomes = self._checked(messages, ends)
        except Exception as error:
            outcomes = self._failed(messages, error)
        on_end(outcomes, deadline - self._limit, 0)

    def _checked(self, messages: Sequence[Message], outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        if len(outcomes) == len(messages):
            for outcome in outcomes:
                if type(outcome) is not Delivered:
                    return [self._checked_one(one, messages) for one in outcomes]
            return outcomes
        name, fault = self._provider.name, f"{len(outcomes)} outcomes for {len(messages)} messages"
        thinned.log("error", "the adapter returned a wrong number of outcomes", name, fault, provider=name)
        return [Faulty(f"the adapter failed: it returned {fault}")] * len(messages)

    def _checked_one(self, outcome: Outcome, messages: Sequence[Message]) -> Outcome:
        """Return the outcome if it can be sent to Redis. Adapters of others may not be type-checked."""
        try:
            if not isinstance(outcome, Delivered | Failure):
                raise TypeError(f"{type(outcome).__name__} is not an outcome")
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
        """This process lacks resources: spend no attempt, and do not count it for the provider's breaker."""
        name, reason = self._provider.name, str(error) or repr(error)
        thinned.log("warning", "this process cannot send; messages wait", name, reason, provider=name)
        return Postponed(str(error), random.uniform(1, 2))  # noqa: S311

    def _watch(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(left, self._cancel_overdue)

    def _cancel_overdue(self) -> None:
        self._timer = None
        for pending, (messages, on_end, deadline) in [*self._in_progress.items()]:
            if deadline > time.monotonic():
                self._watch(deadline)
                return
            if self._in_progress.pop(pending, None) is not None:
                pending.cancel()
                reason = f"no answer within {self._timeout:g} s"
                on_end([Retry(reason)] * len(messages), deadline - self._limit, 0)
