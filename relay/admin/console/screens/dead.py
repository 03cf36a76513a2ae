"""Dead letters over all providers: by reason, with filters, and the latest ones."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from relay.admin.console.api.dead_arguments import DeadArguments
from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.errors import UsageError
from relay.operations.dead import DeadScope
from relay.operations.dead_reasons import Survey, survey
from relay.operations.dead_selection import LetterName, parse_cursor

MOST_REASONS = 50
MOST_LETTERS = 50

FIELDS = ("provider", "reason", "text", "status", "group", "queue", "since", "until", "id")

NOTHING = Survey()

SHORTEST_PART = 3
"""Characters of a part of a reason that selects its letters."""


async def _values(call: Call, sample: Sample) -> Values:
    services = call.services
    given = {name: call.query(name).strip() for name in FIELDS}
    filters = {name: text for name, text in given.items() if text}
    after = call.query("after")
    counted_at, found, problem = 0.0, NOTHING, ""
    try:
        arguments = msgspec.convert(filters, DeadArguments)
        selection = replace(arguments.selection(), after=parse_cursor(after) if after else None)
        client, scope = await services.client(), DeadScope.of(call.settings)

        async def read() -> tuple[float, Survey]:
            return sample.overview.at, await survey(client, scope, selection, MOST_LETTERS)

        key = ("dead", after, tuple(sorted(filters.items())))
        counted_at, found = await services.cache.get(key, 5.0, read)
    except (UsageError, msgspec.MsgspecError) as error:
        problem = str(error)
    overview, page = sample.overview, found.page
    matching = sum(group.count for group in found.groups)
    last = LetterName.of(page.letters[-1]).cursor if page.letters else ""
    return {
        "filters": filters,
        "given": given,
        "problem": problem,
        "groups": found.groups[:MOST_REASONS],
        "reasons": len(found.groups),
        "matching": matching,
        "letters": page.letters,
        "newer": page.newer,
        "previous": page.previous,
        "next": last if page.newer + len(page.letters) < matching else None,
        "counted_at": counted_at,
        "part": part_of,
        "queues": [queue.name for queue in overview.queues],
        "job": services.jobs.running,
        "names": [
            *(lane.provider for lane in overview.lanes if lane.dead or lane.provider == given["provider"]),
            *(queue.name for queue in overview.queues if queue.rejected),
        ],
    }


def part_of(reason: str) -> str:
    """Return the longest part of a grouped reason that all of its letters have; empty if it is short."""
    part = max((each.strip() for each in reason.split("#")), key=len)
    return part if len(part) >= SHORTEST_PART else ""


SCREEN = Screen("dead", "/dead", "dead.html", _values, "Dead letters", every=5)
