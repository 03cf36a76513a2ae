"""One lane: its state, numbers and groups."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.lane_view import lane_view
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import NotFound, Screen, Values
from relay.admin.console.tones import STATE_TONES
from relay.store.overview import read_provider
from relay.text import quote

MOST_GROUPS = 50
"""Rows of a table of groups."""


async def _values(call: Call, sample: Sample) -> Values:
    provider = call.part("provider")
    overview = await read_provider(await call.services.client(), call.settings, provider)
    if not overview.lanes:
        known = ", ".join(call.settings.providers)
        raise NotFound(f"There is no provider {quote(provider)}. Known: {known}.")
    (lane,) = overview.lanes
    failing = lane.groups.failing()
    return {
        "view": lane_view(lane, sample),
        "lane": lane,
        "groups": lane.groups.found[:MOST_GROUPS],
        "failing": failing[:MOST_GROUPS],
        "failing_total": len(failing),
        "tones": STATE_TONES,
    }


SCREEN = Screen("lane", "/lanes/{provider}", "lane.html", _values)
