"""One message: its content, where it is, when it will go and why not now, and every attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import NotFound, Screen, Values
from relay.admin.console.tones import Tone
from relay.errors import UsageError
from relay.message import PRIORITIES
from relay.operations.as_command import push_command
from relay.operations.find import Found, State, find
from relay.operations.without_secrets import payload_text, payload_without_secrets

TONES = {
    State.QUEUED: Tone.IDLE,
    State.WAITING: Tone.GOOD,
    State.DELAYED: Tone.WARN,
    State.BLOCKED: Tone.WARN,
    State.IN_FLIGHT: Tone.GOOD,
    State.DEAD: Tone.BAD,
    State.ENDED: Tone.IDLE,
}

CANCELLABLE = (State.WAITING, State.DELAYED, State.BLOCKED)
MOVABLE = (State.WAITING, State.DELAYED)
"""A blocked message has to wait for the one before it."""


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message in one place."""

    found: Found
    priority: str = ""
    payload: str = ""
    """Its content as indented JSON without secrets; empty if Redis does not have it any more."""
    hides_secrets: bool = False
    command: str = ""
    """The command that pushes a copy; empty if there is none."""
    receipt: str = ""
    """The list that its receipt goes to, or the content of its receipt."""


def _view(found: Found, call: Call) -> MessageView:
    message = found.message
    if message is None:
        return MessageView(found, receipt=_receipt_of_ended(found))
    payload = payload_without_secrets(message.payload, call.services.redactor)
    queue = next((each for each in call.settings.queues if each.name == message.queue), None)
    command = ""
    if queue is not None and not message.targets and not message.part_of:
        command = push_command(message, found.provider, payload, queue.format)
    went = "went" if found.state is State.DEAD else "goes"
    receipt = f"{went} to the list {message.reply_to}" if message.reply_to else "none: it has no reply_to"
    return MessageView(
        found,
        PRIORITIES[message.priority],
        payload_text(payload),
        payload != message.payload,
        command,
        receipt,
    )


def _receipt_of_ended(found: Found) -> str:
    """Return the content of the receipt, if the message asked for one."""
    if found.state is not State.ENDED or not found.outcome:
        return ""
    last = found.attempts[-1] if found.attempts else None
    parts = [found.outcome]
    if last is not None:
        parts += [
            str(last.status or ""),
            last.reason,
            last.provider_id and f"provider's id {last.provider_id}",
        ]
    return ", ".join(filter(None, parts))


async def _values(call: Call, sample: Sample) -> Values:
    message_id, services = call.part("id"), call.services

    async def read() -> Sequence[Found]:
        return await find(await services.client(), call.settings, message_id)

    try:
        found = await services.cache.get(("message", message_id), 0.9, read)
    except UsageError as error:
        raise NotFound(str(error)) from error
    return {
        "id": message_id,
        "views": [_view(one, call) for one in found],
        "tones": TONES,
        "cancellable": CANCELLABLE,
        "movable": MOVABLE,
    }


SCREEN = Screen("message", "/messages/{id}", "message.html", _values)
