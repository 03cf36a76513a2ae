"""The settings in force, without secrets: those of the lanes, overrides, and differences between workers."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.rows import rows_of
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.store import lane_settings


async def _values(call: Call, sample: Sample) -> Values:
    overview, services = sample.overview, call.services

    async def read() -> lane_settings.FleetSettings:
        return await lane_settings.read(await services.client(), services.prefix)

    published = await services.cache.get("settings", 5.0, read)
    alive = {member.info.settings: member.info.started for member in overview.alive}
    # Those of the file that no worker has published come first, as in all documents.
    queues = {**services.own().queues, **published.in_force(alive).queues}
    return {
        "lanes": rows_of(call, overview.lanes, lambda lane, text: text in lane.provider.lower()),
        "queues": rows_of(call, list(queues.items()), lambda queue, text: text in queue[0].lower()),
        "overrides": [lane for lane in overview.lanes if lane.override],
        "differing": overview.differing,
        "digests": sorted(alive),
        "ours": call.services.digest(),
        "redis": call.settings.redis.safe_url,
        "path": call.settings.path,
    }


SCREEN = Screen("configuration", "/configuration", "configuration.html", _values, "Configuration", every=5)
