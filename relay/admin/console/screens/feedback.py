"""Feedback: targets that are gone, the newest first, and how many there are by provider."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.store.feedback import Feedback, read_feedback

MOST_ROWS = 100


async def _values(call: Call, sample: Sample) -> Values:
    services = call.services

    async def read() -> list[Feedback]:
        return await read_feedback(await services.client(), services.prefix, limit=MOST_ROWS)

    gone = [lane for lane in sample.overview.lanes if lane.totals["unregistered"]]
    return {
        "entries": await services.cache.get("feedback", 2.0, read),
        "lanes": sorted(gone, key=lambda lane: -lane.totals["unregistered"])[:20],
        "most": MOST_ROWS,
    }


SCREEN = Screen("feedback", "/feedback", "feedback.html", _values, "Feedback", every=2)
