"""Find messages, cancel them, send them next."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypedDict

from msgspec import Meta

from relay.admin.console.api.route import Arguments, NoArguments, Reply, Route
from relay.admin.console.call import Call
from relay.errors import UsageError
from relay.operations import lanes
from relay.operations.find import documents, find
from relay.operations.found import FoundDocument


class MessageArguments(Arguments, frozen=True, kw_only=True):
    """The message to cancel, or to send next."""

    id: Annotated[str, Meta(min_length=1, max_length=128, description="The id of the message.")]
    because: Annotated[str, Meta(max_length=1000, description="The reason, for the audit log.")] = ""


class NextArguments(MessageArguments, frozen=True, kw_only=True):
    """The message to send next."""

    dry_run: Annotated[bool, Meta(description="Only count the messages before it; change nothing.")] = False


class Cancelled(TypedDict):
    """The message is cancelled."""

    result: Literal["cancelled"]


class SentNext(TypedDict):
    """The message is next, or would be."""

    result: Literal["moved", "movable"]
    before: int
    """The messages of its group that still go before it."""
    text: str


async def _find(call: Call, _: NoArguments) -> Reply:
    messages = await find(await call.services.client(), call.settings, call.part("id"))
    found = documents(messages, call.services.redactor)
    return Reply(found, 200 if found else 404)


async def _cancel(call: Call, arguments: MessageArguments) -> Reply:
    provider, because, who = call.part("provider"), arguments.because, call.visitor.name
    result = await call.act(lanes.cancel, provider, arguments.id, because=because, who=who)
    if result != "cancelled":
        return Reply({"error": f"not cancelled: the message is {result}", "result": result}, 409)
    return Reply(Cancelled(result="cancelled"))


async def _send_next(call: Call, arguments: NextArguments) -> Reply:
    provider, because, who = call.part("provider"), arguments.because, call.visitor.name
    result: Literal["moved", "movable"] = "movable" if arguments.dry_run else "moved"
    try:
        if arguments.dry_run:
            client = await call.services.client()
            before = await lanes.count_before_next(client, call.settings, provider, arguments.id)
        else:
            before = await call.act(lanes.send_next, provider, arguments.id, because=because, who=who)
    except UsageError as error:
        return Reply({"error": str(error)}, 409)
    text = lanes.sent_next(provider, arguments.id, before)
    return Reply(SentNext(result=result, before=before, text=text))


ROUTES: Final = (
    Route(
        "GET",
        "/messages/{id}",
        "The place of a message, its attempts, and when it will be sent. Nothing found: 404 and `[]`.",
        "relay find ID --json",
        _find,
        answer=list[FoundDocument],
    ),
    Route(
        "POST",
        "/lanes/{provider}/cancel",
        "Cancel a message that is not in flight yet; otherwise 409.",
        "relay cancel PROVIDER ID",
        _cancel,
        MessageArguments,
        answer=Cancelled,
    ),
    Route(
        "POST",
        "/lanes/{provider}/send-next",
        "Move a waiting message to the head of its lane, or of its group; 409 if it cannot be moved.",
        "relay send-next PROVIDER ID",
        _send_next,
        NextArguments,
        answer=SentNext,
    ),
)
