"""One message: where it is, when it will go and why not now, and every attempt."""

from __future__ import annotations

from collections.abc import Sequence

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import NotFound, Screen, Values
from relay.admin.console.tones import Tone
from relay.errors import UsageError
from relay.operations.find import Found, State, find

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


async def _values(call: Call, sample: Sample) -> Values:
    message_id, services = call.part("id"), call.services

    async def read() -> Sequence[Found]:
        return await find(await services.client(), call.settings, message_id)

    try:
        found = await services.cache.get(("message", message_id), 0.9, read)
    except UsageError as error:
        raise NotFound(str(error)) from error
    return {"id": message_id, "found": found, "tones": TONES, "cancellable": CANCELLABLE}


SCREEN = Screen("message", "/messages/{id}", "message.html", _values)
