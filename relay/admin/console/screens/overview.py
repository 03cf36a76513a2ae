"""The overview: one sentence, troubles first, a row for each lane, queues without readers, Redis."""

from __future__ import annotations

from relay.admin.console.call import Call, Services
from relay.admin.console.lane_view import lane_view
from relay.admin.console.rendering import moment, shown
from relay.admin.console.rows import first_rows, rows_of
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.admin.console.tones import LEVEL_TONES, Tone
from relay.admin.console.trouble_rows import TroubleRow, sentence, tone_of_all, trouble_rows
from relay.operations.summary import trouble_first
from relay.operations.troubles import troubles
from relay.store.fleet_findings import worker_findings


async def _values(call: Call, sample: Sample) -> Values:
    overview = sample.overview
    found = troubles(overview, worker_findings(overview, call.services.digest()))
    rows = trouble_rows(found, sample.servers)
    headline = sentence(overview)
    if sample.error:
        headline = f"Redis does not answer. The numbers are those of {moment(overview.at)}."
        rows.insert(0, TroubleRow(Tone.BAD, "Redis does not answer", shown(sample.error)))
    lanes = rows_of(
        call,
        trouble_first(overview.lanes),
        lambda lane, text: text in lane.provider.lower() or text in lane.state,
    )
    sample = await call.services.sampler.with_hours(sample, (lane.provider for lane in lanes.shown))
    return {
        "sentence": headline,
        "tone": tone_of_all(rows),
        "troubles": rows,
        "rows": lanes,
        "lanes": [lane_view(lane, sample) for lane in lanes.shown],
        "servers": sample.servers,
        "level_tones": LEVEL_TONES,
        "alive": len(overview.alive),
    }


async def prepare(services: Services) -> None:
    """Read all that this screen shows at first. Raises StoreError."""
    sample = await services.sampler.latest()
    shown = first_rows(trouble_first(sample.overview.lanes))
    await services.sampler.with_hours(sample, (lane.provider for lane in shown))


SCREEN = Screen("overview", "/", "overview.html", _values, "Overview")
