"""The overview: one sentence, troubles first, a row for each lane, queues without readers, Redis."""

from __future__ import annotations

from relay.admin.console.call import Call, Services
from relay.admin.console.lane_view import lane_view
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.admin.console.tones import LEVEL_TONES
from relay.admin.console.trouble_rows import sentence, tone_of_all, trouble_rows
from relay.operations.summary import trouble_first
from relay.operations.troubles import troubles
from relay.store.fleet_findings import findings

MOST_ROWS = 100
"""Lanes on one page."""

FIRST_ROWS = 50
"""Show at most this many lanes, so that the page opens fast: those with trouble first. The filter finds the
others."""


async def _values(call: Call, sample: Sample) -> Values:
    overview = sample.overview
    rows = trouble_rows(troubles(overview, findings(overview, call.services.digest())), sample.servers)
    views = [lane_view(lane, sample) for lane in trouble_first(overview.lanes)]
    wanted = call.query("filter").strip().lower()
    matching = [view for view in views if wanted in view.name.lower() or wanted in view.state]
    are_few = len(matching) <= MOST_ROWS or "all" in call.request.query
    lanes = matching if are_few else matching[:FIRST_ROWS]
    sample = await call.services.sampler.with_hours(sample, (view.name for view in lanes))
    lanes = [lane_view(view.lane, sample) for view in lanes]
    return {
        "sentence": sentence(overview),
        "tone": tone_of_all(rows),
        "troubles": rows,
        "lanes": lanes,
        "matching": len(matching),
        "total": len(views),
        "filter": wanted,
        "servers": sample.servers,
        "level_tones": LEVEL_TONES,
        "alive": len(overview.alive),
    }


async def prepare(services: Services) -> None:
    """Read all that this screen shows at first. Raises StoreError."""
    sample = await services.sampler.latest()
    first = trouble_first(sample.overview.lanes)
    shown = first if len(first) <= MOST_ROWS else first[:FIRST_ROWS]
    await services.sampler.with_hours(sample, (lane.provider for lane in shown))


SCREEN = Screen("overview", "/", "overview.html", _values, "Overview")
