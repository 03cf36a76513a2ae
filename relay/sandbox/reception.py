"""The path of every request, whichever server received it: check it, inject faults, log it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relay.sandbox.exchange import Answer, Call, Emulator, Received, Verdict, succeeds
from relay.sandbox.faults import NO_FAULT, Ending, FaultInjector, Injection, RequestFaultInjector
from relay.sandbox.request_log import RequestLog
from relay.text import printable

_SHOWN = 100
"""Characters of a body in the line of a request."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The handling of a request: wait `delay` seconds, then end it without an answer, or answer."""

    answer: Answer
    messages: Sequence[Received]
    delay: float
    ending: Ending | None


class Reception:
    """Shared by all emulators and servers. `on_request` is called with one line for each request."""

    def __init__(
        self, request_log: RequestLog, fault_injector: FaultInjector, on_request: Callable[[str], None] | None
    ) -> None:
        self.request_log = request_log
        self.fault_injector = fault_injector
        self._on_request = on_request
        self._request_faults = RequestFaultInjector()

    def receive(self, emulator: Emulator, call: Call) -> Plan:
        """Check a request. Faults are injected only into requests that would succeed."""
        verdict = emulator.judge(call)
        fault = self._fault(emulator, call, verdict) if succeeds(verdict.answer.status) else NO_FAULT
        answer = verdict.answer
        if fault.answer is not None:
            answer = emulator.failed(fault.answer, answer, fault.reason)
        return Plan(answer, verdict.messages, fault.delay, fault.ending)

    def _fault(self, emulator: Emulator, call: Call, verdict: Verdict) -> Injection:
        delay = 0.0
        if verdict.requested is not None:
            message = verdict.messages[0].message_id if verdict.messages else ""
            own = self._request_faults.decide(verdict.requested, message or call.path)
            if own.answer or own.ending:
                return own
            delay = own.delay
        gone = emulator.gone if verdict.messages else 0
        general = self.fault_injector.decide(emulator.name, len(verdict.messages), gone)
        return replace(general, delay=delay + general.delay) if delay else general

    def log(self, provider: str, call: Call, status: int, messages: Sequence[Received]) -> None:
        """Log a request that was answered with `status`."""
        self.request_log.add(provider, status, messages)
        self.notify(provider, call, status, messages)

    def notify(self, provider: str, call: Call, status: int, messages: Sequence[Received]) -> None:
        """Call `on_request` with the line of a request."""
        # A successful call without messages, such as that of `relay check --connect`, is not worth a line.
        if self._on_request is not None and (messages or not succeeds(status)):
            self._on_request(_line(provider, call, status, messages))


def _line(provider: str, call: Call, status: int, messages: Sequence[Received]) -> str:
    if messages:
        target, event, _, body = messages[0]
        more = f" (+{len(messages) - 1} more)" if len(messages) > 1 else ""
        line = f"{status or '---'} {provider} {target} {event} {body[:_SHOWN]}{more}"
    else:
        line = f"{status or '---'} {provider} {call.method} {call.path}"
    # Untrusted input must neither move the cursor of a terminal nor add lines to a log.
    return printable(line)
