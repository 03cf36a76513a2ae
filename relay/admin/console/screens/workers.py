"""The workers: who is alive, with which settings."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.store.fleet_findings import findings, has_other_settings


async def _values(call: Call, sample: Sample) -> Values:
    overview = sample.overview
    ours = call.services.digest()
    return {
        "workers": [*overview.workers, *overview.lost],
        "alive": {member.info.worker for member in overview.alive},
        "lost": {member.info.worker for member in overview.lost},
        "differs": {
            member.info.worker for member in overview.workers if has_other_settings(member.info, ours)
        },
        "findings": findings(overview, ours),
        "at": overview.at,
    }


SCREEN = Screen("workers", "/workers", "workers.html", _values, "Workers")
