"""Calls of an adapter with a span for each attempt. Only workers with `telemetry.otlp` use it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import msgspec
from opentelemetry.trace import SpanKind
from opentelemetry.trace.span import Span

from relay.engine import tracing
from relay.engine.adapter_calls import AdapterCalls, OnEnd
from relay.engine.tracing import Tracing
from relay.message import Message
from relay.outcome import Faulty, Outcome, Rejected
from relay.provider import Provider
from relay.settings.options import ProviderOptions

_CLAIMED = "claimed"
"""The name under which a message keeps the time of its claim. It has the decoded payload in the same way."""


class TracedCalls(AdapterCalls):
    """The deliveries of one provider with their spans.

    If the provider passes the context of messages on, it gets the context of the attempt instead of the
    application's: the spans of the receiver then appear under the attempt that caused it.
    """

    def __init__(self, provider: Provider[ProviderOptions], spans: Tracing) -> None:
        super().__init__(provider)
        self._name = provider.name
        self._passes_on = provider.passes_trace_on
        self._spans = spans
        self._open: set[Span] = set()

    def refusal(self, message: Message) -> Rejected | Faulty | None:
        """The first call for each message after its claim, so it keeps the time for the span of the wait."""
        message.__dict__[_CLAIMED] = time.time()
        return super().refusal(message)

    def start(self, messages: Sequence[Message], on_end: OnEnd) -> None:
        for message in messages:
            # Redis does not keep when a later attempt was due.
            if not message.attempts:
                self._spans.waited(message, message.__dict__.get(_CLAIMED) or time.time())
        passes_on = self._passes_on and len(messages) == 1
        kind = SpanKind.PRODUCER if passes_on else SpanKind.CLIENT
        span = self._spans.attempt(self._name, messages, kind=kind)
        if passes_on and (context := tracing.traceparent_of(span)):
            messages = [_with_context(messages[0], context)]
        self._open.add(span)
        super().start(messages, partial(self._end, span, on_end))

    def _end(
        self, span: Span, on_end: OnEnd, outcomes: Sequence[Outcome], started: float, status: int
    ) -> None:
        self._open.discard(span)
        tracing.ended(span, outcomes, status)
        on_end(outcomes, started, status)

    async def close(self) -> None:
        await super().close()
        while self._open:
            tracing.cancelled(self._open.pop())


def _with_context(message: Message, traceparent: str) -> Message:
    changed = msgspec.structs.replace(message, traceparent=traceparent)
    changed.__dict__.update(message.__dict__)  # its payload is decoded once
    return changed
