"""The feedback stream."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from relay.admin.console.api.route import Arguments, NoArguments, Reply, Route
from relay.admin.console.call import Call
from relay.errors import UsageError
from relay.operations.feedback import GoneDocument, gone_document, gone_targets
from relay.store.feedback import Feedback, read_feedback


class FeedbackArguments(Arguments, frozen=True, kw_only=True):
    """A page of the stream."""

    limit: Annotated[int, Meta(ge=1, le=10_000, description="Maximum number of entries.")] = 100
    before: Annotated[str | None, Meta(description="Only entries older than this one: its `entry`.")] = None


async def _feedback(call: Call, arguments: FeedbackArguments) -> Reply:
    before = arguments.before or "+"
    if before != "+" and not all(part.isdecimal() and part.isascii() for part in before.split("-", 1)):
        raise UsageError("before is not the `entry` of an entry, such as 1800000000000-0")
    entries = await read_feedback(
        await call.services.client(), call.services.prefix, limit=arguments.limit, before=before
    )
    return Reply([msgspec.to_builtins(entry) for entry in entries])


async def _rates(call: Call, _: NoArguments) -> Reply:
    overview = (await call.services.sampler.latest()).overview
    client, prefix = await call.services.client(), call.services.prefix
    gone = await gone_targets(client, prefix, overview.lanes, overview.at)
    return Reply([gone_document(one) for one in gone])


ROUTES: Final = (
    Route(
        "GET",
        "/feedback",
        "Targets that are gone, the newest first.",
        "redis-cli XREVRANGE relay:feedback + -",
        _feedback,
        FeedbackArguments,
        answer=list[Feedback],
    ),
    Route(
        "GET",
        "/feedback/rates",
        "Numbers of targets that are gone, by provider: within the last hour, the last 24 hours, and in all.",
        "relay status PROVIDER --json",
        _rates,
        answer=list[GoneDocument],
    ),
)
