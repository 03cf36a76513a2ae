"""Actions on workers: reload their files."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from relay.admin.console.api.route import Arguments, Reply, Route
from relay.admin.console.call import Call
from relay.operations.reload import reload_fleet


class ReloadArguments(Arguments, frozen=True, kw_only=True):
    """The options of `relay reload`."""

    because: Annotated[str, Meta(max_length=1000, description="The reason, for the audit log.")] = ""


async def _reload(call: Call, arguments: ReloadArguments) -> Reply:
    # It does not wait for reports: the process that answers may be the one that reloads.
    asked = await reload_fleet(
        await call.services.client(),
        call.settings,
        who=call.visitor.name,
        because=arguments.because,
        wait=0.0,
    )
    call.services.changed()
    return Reply({"asked": len(asked)}, 202)


ROUTES: Final = (
    Route(
        "POST",
        "/workers/reload",
        "Ask all processes to read their files again. `GET /workers` shows failures and the new settings.",
        "relay reload",
        _reload,
        ReloadArguments,
    ),
)
