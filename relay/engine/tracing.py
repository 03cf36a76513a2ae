"""Spans of OpenTelemetry: one for the wait of a message in Redis, and one for each attempt.

The names follow OpenTelemetry's conventions for messaging. Only workers with `telemetry.otlp` import this
module, because it needs the extra `otel`. The SDK exports in a thread of its own: a collector that is away or
slow never delays a message, and spans beyond the SDK's queue are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import Span
from opentelemetry.util.types import AttributeValue

from relay import __version__
from relay.engine.repeats import thinned
from relay.errors import UsageError
from relay.message import Message
from relay.outcome import Delivered, Outcome
from relay.text import one_line

FLUSH_TIMEOUT = 3.0
"""Seconds for the export of the last spans when a worker ends."""

EXPORTERS = "opentelemetry_traces_exporter"
"""The entry points under which packages of OpenTelemetry register their exporters."""


class Tracing:
    """The spans of one worker."""

    def __init__(self, exporter: SpanExporter | None, worker: str = "") -> None:
        """`exporter` None: spans are made, for the context that they pass on, and not exported."""
        self._provider = TracerProvider(resource=_resource(worker), shutdown_on_exit=False)
        if exporter is not None:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("relay", __version__)

    @classmethod
    def from_environment(cls, worker: str) -> Tracing:
        """Use the exporter, endpoint, sampler and resource of the standard `OTEL_*` variables.

        Raises UsageError if a variable names an exporter that is not installed, or that refuses its options.
        """
        _log_as_relay(asyncio.get_running_loop())
        return cls(_exporter(), worker)

    def waited(self, message: Message, claimed: float) -> None:
        """Export the span of a message's wait, from its push until it was claimed (Unix seconds)."""
        start = max(message.created_at, message.deliver_at)
        context = context_of(message)
        span = self._tracer.start_span(
            f"wait {message.queue}",
            trace.set_span_in_context(trace.NonRecordingSpan(context)) if context else None,
            SpanKind.CONSUMER,
            {
                **_common("wait", "receive", message.queue),
                **_of_message(message),
            },
            [Link(context)] if context else None,
            start_time=_nanoseconds(min(start or claimed, claimed)),
        )
        span.end(_nanoseconds(claimed))

    def attempt(self, provider: str, messages: Sequence[Message], *, kind: SpanKind) -> Span:
        """Start the span of an attempt. Call `ended` for its end."""
        contexts = [context for message in messages if (context := context_of(message))]
        parent = contexts[0] if len(messages) == 1 and contexts else None
        attributes: dict[str, AttributeValue] = _common("send", "send", provider)
        if len(messages) == 1:
            attributes |= _of_message(messages[0])
            attributes["relay.attempt"] = messages[0].attempts + 1
        else:
            attributes["messaging.batch.message_count"] = len(messages)
        return self._tracer.start_span(
            f"send {provider}",
            trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent else None,
            kind,
            attributes,
            [Link(context) for context in contexts],
        )

    async def close(self) -> None:
        """Export the last spans, within `FLUSH_TIMEOUT`. Later ones are dropped."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.force_flush(int(FLUSH_TIMEOUT * 1000))
            _call(loop, over.set)
            self._provider.shutdown()

        # A thread that ends with the process: one of the event loop would delay the exit.
        threading.Thread(target=shut_down, name="otel shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await over.wait()
        except TimeoutError:
            thinned.log("warning", "the last spans were dropped; the collector did not answer", "otel", "")


def ended(span: Span, outcomes: Sequence[Outcome], status: int) -> None:
    """End the span of an attempt. `status` is the HTTP status of the answer; 0 if it is unknown."""
    if span.is_recording():
        failures = [outcome for outcome in outcomes if not isinstance(outcome, Delivered)]
        status = status or next((found for one in failures if (found := getattr(one, "status", 0))), 0)
        if status:
            span.set_attribute("http.response.status_code", status)
        if failures:
            result = type(failures[0]).__name__.lower()
            span.set_attribute("relay.outcome", result)
            span.set_attribute("error.type", str(status) if status >= 400 else result)
            span.set_status(Status(StatusCode.ERROR))
        else:
            span.set_attribute("relay.outcome", "delivered")
    span.end()


def cancelled(span: Span) -> None:
    """End the span of an attempt that was given up because the worker ends."""
    span.set_attribute("error.type", "cancelled")
    span.set_status(Status(StatusCode.ERROR))
    span.end()


def traceparent_of(span: Span) -> str:
    """Return the context of a span for the header `traceparent`; empty if there is none."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def context_of(message: Message) -> SpanContext | None:
    """Return the context in the message's `traceparent`, or None without a valid one."""
    if not message.traceparent:
        return None
    _, trace_id, span_id, flags = message.traceparent.split("-")
    context = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16) & 1))
    return context if context.is_valid else None


def _common(name: str, kind: str, destination: str) -> dict[str, AttributeValue]:
    return {
        "messaging.system": "relay",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
    }


def _of_message(message: Message) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "messaging.message.id": message.id,
        "messaging.message.body.size": len(message.payload_json),
    }
    if message.group:
        found["relay.group"] = message.group
    return found


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _resource(worker: str) -> Resource:
    own = {"service.name": "relay", "service.version": __version__, "service.instance.id": worker}
    return Resource.create({**own, **OTELResourceDetector().detect().attributes})


def _exporter() -> SpanExporter | None:
    name = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if name == "none":
        return None
    if name == "otlp":
        protocol = (
            os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "").strip()
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
            or "http/protobuf"
        )
        name = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}.get(protocol, protocol)
    found = next(iter(entry_points(group=EXPORTERS, name=name)), None)
    if found is None:
        known = ", ".join(sorted({entry.name for entry in entry_points(group=EXPORTERS)}))
        raise UsageError(
            f"telemetry.otlp: no exporter {name!r} is installed (there are {known}); check "
            "OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL"
        )
    try:
        exporter: SpanExporter = found.load()()
    except Exception as error:
        raise UsageError(f"telemetry.otlp: the exporter {name!r} refuses its options: {error}") from error
    return exporter


class _Thinned(logging.Handler):
    """Logs the troubles of the SDK, which come from its thread: the same one once in a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        try:
            reason = record.getMessage()
        except (TypeError, ValueError):
            reason = str(record.msg)
        _call(self._loop, partial(_report, one_line(reason)))


def _report(reason: str) -> None:
    thinned.log("warning", "cannot export spans", "otel", reason)


def _log_as_relay(loop: asyncio.AbstractEventLoop) -> None:
    library = logging.getLogger("opentelemetry")
    library.propagate = False
    library.setLevel(logging.WARNING)
    library.handlers = [_Thinned(loop)]


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        return  # the loop has ended
