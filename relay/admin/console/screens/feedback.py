"""Feedback: targets that are gone, the newest first, and how many there are by provider and hour."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.charts import sparkline
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.operations.feedback import GoneTargets, gone_targets
from relay.store.feedback import Feedback, read_feedback

MOST_ROWS = 100
MOST_PROVIDERS = 20


async def _values(call: Call, sample: Sample) -> Values:
    services, overview = call.services, sample.overview

    async def read() -> list[Feedback]:
        return await read_feedback(await services.client(), services.prefix, limit=MOST_ROWS)

    async def read_rates() -> list[GoneTargets]:
        client = await services.client()
        return await gone_targets(client, services.prefix, overview.lanes, overview.at)

    rates = await services.cache.get("gone", 5.0, read_rates)
    return {
        "entries": await services.cache.get("feedback", 2.0, read),
        "rates": [(one, _chart(one)) for one in rates[:MOST_PROVIDERS]],
        "providers": len(rates),
        "most": MOST_ROWS,
    }


def _chart(gone: GoneTargets) -> object:
    label = f"{gone.last_day:,} targets gone in the last 24 hours, by hour"
    return sparkline([float(number) for number in gone.hours], [], label)


SCREEN = Screen("feedback", "/feedback", "feedback.html", _values, "Feedback", every=2)
