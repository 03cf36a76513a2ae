"""What happens to every request, whichever server took it: judged, troubled, noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relay.sandbox.exchange import Answer, Call, Received, StandIn, Verdict, succeeds
from relay.sandbox.faults import NO_TROUBLE, Ending, RequestTroublemaker, Trouble, Troublemaker
from relay.sandbox.journal import Journal

_SHOWN = 100
"""Characters of a body on a request's line."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a server does with a request: wait `delay` seconds, then end it, or give the answer."""

    answer: Answer
    messages: Sequence[Received]
    delay: float
    ending: Ending | None


class Reception:
    """Shared by all stand-ins and servers. `on_request` hears each request as one line."""

    def __init__(
        self, journal: Journal, troublemaker: Troublemaker, on_request: Callable[[str], None] | None
    ) -> None:
        self.journal = journal
        self.troublemaker = troublemaker
        self._on_request = on_request
        self._own = RequestTroublemaker()

    def receive(self, stand_in: StandIn, call: Call) -> Course:
        """Judge one request and decide what goes wrong with it. A wrong request has trouble enough."""
        verdict = stand_in.judge(call)
        trouble = self._trouble(stand_in, call, verdict) if succeeds(verdict.answer.status) else NO_TROUBLE
        answer = verdict.answer
        if trouble.answer is not None:
            answer = stand_in.failed(trouble.answer, answer, trouble.reason)
        return Course(answer, verdict.messages, trouble.delay, trouble.ending)

    def _trouble(self, stand_in: StandIn, call: Call, verdict: Verdict) -> Trouble:
        delay = 0.0
        if verdict.order is not None:
            message = verdict.messages[0].message_id if verdict.messages else ""
            own = self._own.decide(verdict.order, message or call.path)
            if own.answer or own.ending:
                return own
            delay = own.delay
        general = self.troublemaker.decide(stand_in.name, len(verdict.messages), stand_in.gone)
        return replace(general, delay=delay + general.delay) if delay else general

    def note(self, provider: str, call: Call, status: int, messages: Sequence[Received]) -> None:
        """Write down how a request ended."""
        self.journal.note(provider, status, messages)
        self.tell(provider, call, status, messages)

    def tell(self, provider: str, call: Call, status: int, messages: Sequence[Received]) -> None:
        """Say how a request ended, in one line."""
        # A call without messages that went well, such as `relay check --connect`, is not worth a line.
        if self._on_request is not None and (messages or not succeeds(status)):
            self._on_request(_line(provider, call, status, messages))


def _line(provider: str, call: Call, status: int, messages: Sequence[Received]) -> str:
    if messages:
        target, event, _, body = messages[0]
        more = f" (+{len(messages) - 1} more)" if len(messages) > 1 else ""
        line = f"{status or '---'} {provider} {target} {event} {body[:_SHOWN]}{more}"
    else:
        line = f"{status or '---'} {provider} {call.method} {call.path}"
    if line.isprintable():
        return line
    # What strangers send must not move the cursor of a terminal, nor add lines to a log.
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in line
    )
