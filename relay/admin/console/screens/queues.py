"""The queues: their waiting, arriving and fetched elements, and those that no worker reads."""

from __future__ import annotations

from dataclasses import dataclass

from relay.admin.console.call import Call
from relay.admin.console.rows import rows_of
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.admin.console.tones import Tone
from relay.settings.models import QueueSettings
from relay.store.overview import QueueStatus


@dataclass(frozen=True, slots=True)
class QueueView:
    """One row."""

    queue: QueueStatus
    settings: QueueSettings | None
    """None if the file of this console does not name it."""
    arrives: float | None
    """Elements per second; None until it was watched for some seconds."""
    state: str
    tone: Tone
    why: str = ""

    @property
    def name(self) -> str:
        return self.queue.name

    @property
    def provider(self) -> str:
        """The provider of its messages, as a text for people."""
        if self.settings is None:
            return "–"
        return self.settings.provider or "named by messages"


def queue_view(queue: QueueStatus, call: Call, sample: Sample) -> QueueView:
    """Return the view of a queue."""
    settings = next((each for each in call.settings.queues if each.name == queue.name), None)
    arrives = sample.arrivals.get(queue.name)
    if queue.error:
        return QueueView(queue, settings, arrives, "unreadable", Tone.BAD, queue.error)
    if not queue.served:
        remedy = (
            "Start a worker with `relay run`, or resume one that is drained."
            if queue.configured
            else "It is not in the file: add it below `queues`, or delete the list."
        )
        tone = Tone.BAD if queue.waiting else Tone.IDLE
        return QueueView(queue, settings, arrives, "nobody reads it", tone, remedy if queue.waiting else "")
    if queue.waiting or queue.taken:
        return QueueView(queue, settings, arrives, "read", Tone.GOOD)
    return QueueView(queue, settings, arrives, "empty", Tone.IDLE)


async def _values(call: Call, sample: Sample) -> Values:
    views = [queue_view(queue, call, sample) for queue in sample.overview.queues]
    # Trouble first; otherwise they stay in their order.
    ordered = sorted(views, key=lambda view: view.tone is not Tone.BAD)
    return {
        "rows": rows_of(call, ordered, lambda view, text: text in view.name.lower() or text in view.state)
    }


SCREEN = Screen("queues", "/queues", "queues.html", _values, "Queues")
