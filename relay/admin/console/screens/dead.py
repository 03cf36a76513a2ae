"""Dead letters over all providers: by reason, with filters, and the latest ones."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relay.admin.console.api.dead_arguments import DeadArguments
from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.errors import UsageError
from relay.operations import dead
from relay.operations.dead import DeadScope, ReasonGroup
from relay.store.dead import DeadLetter

MOST_REASONS = 50
MOST_LETTERS = 50

FIELDS = ("provider", "reason", "text", "status", "group", "queue", "since", "until", "id")

SHORTEST_PART = 3
"""Characters of a part of a reason that selects its letters."""


async def _values(call: Call, sample: Sample) -> Values:
    services = call.services
    given = {name: call.query(name).strip() for name in FIELDS}
    filters = {name: text for name, text in given.items() if text}
    groups: Sequence[ReasonGroup] = []
    letters: list[DeadLetter] = []
    problem = ""
    try:
        arguments = msgspec.convert(filters, DeadArguments)
        client, scope = await services.client(), DeadScope.of(call.settings)

        async def read_groups() -> Sequence[ReasonGroup]:
            return await dead.by_reason(client, scope, arguments.selection())

        async def read_letters() -> list[DeadLetter]:
            selection = arguments.selection(MOST_LETTERS)
            return [letter async for letter in dead.list_letters(client, scope, selection)]

        key = tuple(sorted(filters.items()))
        groups = await services.cache.get(("reasons", key), 5.0, read_groups)
        letters = await services.cache.get(("letters", key), 5.0, read_letters)
    except (UsageError, msgspec.MsgspecError) as error:
        problem = str(error)
    overview = sample.overview
    return {
        "filters": filters,
        "given": given,
        "problem": problem,
        "groups": groups[:MOST_REASONS],
        "reasons": len(groups),
        "matching": sum(group.count for group in groups),
        "letters": letters,
        "most": MOST_LETTERS,
        "part": part_of,
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
