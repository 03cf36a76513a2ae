"""Find and cancel messages."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from relay.admin.console.api.route import Arguments, NoArguments, Reply, Route
from relay.admin.console.call import Call
from relay.operations import lanes
from relay.operations.find import documents, find


class CancelArguments(Arguments, frozen=True, kw_only=True):
    """The message to cancel."""

    id: Annotated[str, Meta(min_length=1, max_length=128, description="The id of the message.")]
    because: Annotated[str, Meta(max_length=1000, description="The reason, for the audit log.")] = ""


async def _find(call: Call, _: NoArguments) -> Reply:
    found = documents(await find(await call.services.client(), call.settings, call.part("id")))
    return Reply(found, 200 if found else 404)


async def _cancel(call: Call, arguments: CancelArguments) -> Reply:
    result = await lanes.cancel(
        await call.services.client(),
        call.settings,
        call.part("provider"),
        arguments.id,
        because=arguments.because,
        who=call.visitor.name,
    )
    call.services.changed()
    if result != "cancelled":
        return Reply({"error": f"not cancelled: the message is {result}", "result": result}, 409)
    return Reply({"result": result})


ROUTES: Final = (
    Route(
        "GET",
        "/messages/{id}",
        "Where a message is, its attempts, when it will go and why not now. Nothing found: 404 and `[]`.",
        "relay find ID --json",
        _find,
    ),
    Route(
        "POST",
        "/lanes/{provider}/cancel",
        "Cancel a message that is not in flight yet; otherwise 409.",
        "relay cancel PROVIDER ID",
        _cancel,
        CancelArguments,
    ),
)
