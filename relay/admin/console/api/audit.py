"""The audit log."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from relay.admin.console.api.route import Arguments, Reply, Route
from relay.admin.console.call import Call
from relay.operations.times import parse_moment
from relay.store import audit
from relay.store.audit import AuditEntry


class AuditArguments(Arguments, frozen=True, kw_only=True):
    """The options of `relay audit`."""

    provider: Annotated[str | None, Meta(description="Only actions on this provider.")] = None
    since: Annotated[
        str | None, Meta(description="Only actions since then: RFC 3339, Unix seconds, or `2h` ago.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Maximum number of actions.")] = 50


async def _audit(call: Call, arguments: AuditArguments) -> Reply:
    since = 0.0 if arguments.since is None else parse_moment("since", arguments.since)
    entries = await audit.read(
        await call.services.client(),
        call.services.prefix,
        limit=arguments.limit,
        since=since,
        provider=arguments.provider,
    )
    return Reply([msgspec.to_builtins(entry) for entry in entries])


ROUTES: Final = (
    Route(
        "GET",
        "/audit",
        "The actions of operators, the newest first.",
        "relay audit --json",
        _audit,
        AuditArguments,
        answer=list[AuditEntry],
    ),
)
