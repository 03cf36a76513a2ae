"""The queues."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values


async def _values(call: Call, sample: Sample) -> Values:
    settings = {queue.name: queue for queue in call.settings.queues}
    return {"queues": sample.overview.queues, "settings": settings}


SCREEN = Screen("queues", "/queues", "queues.html", _values, "Queues")
