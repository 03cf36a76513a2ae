"""Spans of a real run, as a collector receives them over OTLP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from testing.ports import free_port
from testing.receiver import Answer, Received
from testing.site import Site

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ON: dict[str, Any] = {"telemetry": {"otlp": True}}


def exported(requests: list[Received]) -> list[tuple[WireSpan, dict[str, Any]]]:
    """The spans that the collector got, each with its attributes and those of its resource."""
    found = []
    for request in requests:
        if request.path != "/v1/traces":
            continue
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            common = values(resource.resource.attributes)
            for scope in resource.scope_spans:
                found += [(span, {**common, **values(span.attributes)}) for span in scope.spans]
    return found


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


async def test_spans_show_the_wait_and_each_attempt_of_a_message(site: Site) -> None:
    failures = iter([500])

    def answer(request: Received) -> Answer:
        if request.path == "/v1/traces":
            return Answer(200, b"")
        if b"bad" in request.body:
            return Answer(400, b"no")
        return Answer(next(failures, 202) if b"late" in request.body else 202)

    site.receiver.answer = answer
    site.configure(
        {"hook": site.webhook(retry={"base": "10ms"}), "bus": site.pusher()},
        [{"name": "notifications", "provider": "hook", "providers": "*"}],
        **ON,
    )
    pushed = time.time()
    await site.push(
        {"id": "late", "payload": {"body": "late"}, "traceparent": f"00-{TRACE}-{PARENT}-01"},
        {"id": "bad", "payload": {"body": "bad"}},
        {"id": "not-sampled", "payload": {"body": 1}, "traceparent": f"00-{TRACE}-{PARENT}-00"},
        {"id": "p", "provider": "bus", "payload": {"channel": "c", "event": "e", "data": "d"}},
    )
    await site.drain(
        OTEL_EXPORTER_OTLP_ENDPOINT=site.receiver.url, OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test"
    )
    spans = exported(site.receiver.requests)
    assert {fields["messaging.message.id"] for _, fields in spans} == {"late", "bad", "p"}
    of = {
        name: [(span, fields) for span, fields in spans if fields["messaging.message.id"] == name]
        for name in ("late", "bad", "p")
    }
    for span, fields in spans:
        assert fields["service.name"] == "relay"
        assert fields["deployment.environment"] == "test"
        assert fields["messaging.system"] == "relay"
        assert pushed * 1e9 - 1e9 <= span.start_time_unix_nano <= span.end_time_unix_nano

    (wait, waited), (first, failed), (second, delivered) = sorted(
        of["late"], key=lambda pair: pair[0].end_time_unix_nano
    )
    assert [each.name for each in (wait, first, second)] == ["wait notifications", "send hook", "send hook"]
    assert (wait.kind, first.kind) == (WireSpan.SPAN_KIND_CONSUMER, WireSpan.SPAN_KIND_PRODUCER)
    assert waited["messaging.operation.type"] == "receive"
    assert waited["messaging.destination.name"] == "notifications"
    assert failed["messaging.operation.type"] == "send"
    assert (failed["messaging.destination.name"], failed["relay.attempt"]) == ("hook", 1)
    assert (failed["http.response.status_code"], failed["error.type"]) == (500, "500")
    assert first.status.code == 2
    assert (delivered["http.response.status_code"], delivered["relay.outcome"]) == (202, "delivered")
    assert delivered["relay.attempt"] == 2
    assert second.status.code != 2
    assert "error.type" not in delivered
    for span in (wait, first, second):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert [link.span_id.hex() for link in span.links] == [PARENT]

    # Receivers continue the trace of the attempt, unless it is not sampled.
    headers = [
        request.headers["traceparent"]
        for request in site.receiver.requests
        if b"late" in request.body and request.path == "/hook"
    ]
    assert headers == [f"00-{TRACE}-{span.span_id.hex()}-01" for span in (first, second)]
    (unsampled,) = [request for request in site.receiver.requests if request.body == b"1"]
    assert unsampled.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert unsampled.headers["traceparent"].endswith("-00")

    assert of["bad"][-1][1]["relay.outcome"] == "rejected"
    assert of["p"][-1][0].kind == WireSpan.SPAN_KIND_CLIENT


async def test_a_collector_that_is_away_delays_nothing(site: Site) -> None:
    site.configure({"hook": site.webhook()}, **ON)
    await site.push(*({"payload": {"body": number}} for number in range(200)))
    away = f"http://127.0.0.1:{free_port()}"
    finished = await site.drain(OTEL_EXPORTER_OTLP_ENDPOINT=away, OTEL_BSP_SCHEDULE_DELAY="50")
    assert len(site.receiver.requests) == 200
    assert 1 <= finished.err.count("cannot export spans") < 10
    assert "Traceback" not in finished.err


@pytest.fixture
def without_otel(tmp_path: Path) -> dict[str, Any]:
    """An environment in which OpenTelemetry cannot be imported."""
    package = tmp_path / "hidden" / "opentelemetry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('hidden')\n")
    return {"PYTHONPATH": str(package.parent)}


async def test_traces_need_the_extra_only_if_they_are_on(site: Site, without_otel: dict[str, Any]) -> None:
    site.configure({"hook": site.webhook()}, **ON)
    finished = await site.relay("check", **without_otel)
    assert finished.code == 2
    assert "telemetry.otlp: needs OpenTelemetry: pip install 'relay-push[otel]'" in finished.err
    site.configure({"hook": site.webhook()})
    await site.push({"payload": {"body": 1}})
    await site.drain(**without_otel)
    assert len(site.receiver.requests) == 1


async def test_an_exporter_that_is_not_installed_is_named(site: Site) -> None:
    site.configure({"hook": site.webhook()}, **ON)
    finished = await site.relay("run", "--processes", "1", OTEL_TRACES_EXPORTER="zipkin")
    assert finished.code == 2
    assert (
        "telemetry.otlp: no exporter 'zipkin' is installed (there are console, otlp_proto_http"
        in finished.err
    )
