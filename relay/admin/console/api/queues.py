"""One queue: its first elements, and a message that an operator pushes."""

from __future__ import annotations

from typing import Annotated, Final, TypedDict

from msgspec import Meta

from relay.admin.console.api.route import Arguments, NoArguments, Reply, Route
from relay.admin.console.call import Call
from relay.operations.document_types import QueueDocument
from relay.operations.documents import queue_document
from relay.operations.push import push_by_hand
from relay.operations.without_secrets import ElementDocument, head_document
from relay.store.queue_head import read_head
from relay.text import enumerated


class PushArguments(Arguments, frozen=True, kw_only=True):
    """A message, as an application would push it."""

    message: Annotated[
        str, Meta(max_length=1024 * 1024, description="The element of the queue: JSON, as a text.")
    ]
    because: Annotated[str, Meta(max_length=1000, description="The reason, for the audit log.")] = ""


class QueueDetailDocument(QueueDocument):
    """One queue with its first elements."""

    first: list[ElementDocument]


class Pushed(TypedDict):
    """The number of messages that were pushed."""

    pushed: int


async def _queue(call: Call, _: NoArguments) -> Reply:
    sample = await call.services.sampler.latest()
    name = call.part("queue")
    for queue in sample.overview.queues:
        if queue.name == name:
            client, prefix = await call.services.client(), call.services.prefix
            first = await read_head(client, prefix, name)
            elements = [head_document(element, call.services.redactor) for element in first]
            return Reply(QueueDetailDocument(**queue_document(queue), first=elements))
    known = enumerated(queue.name for queue in sample.overview.queues)
    return Reply({"error": f"no queue {name!r}; known: {known}"}, 404)


async def _push(call: Call, arguments: PushArguments) -> Reply:
    await call.act(
        push_by_hand,
        call.part("queue"),
        arguments.message,
        call.services.open_intake,
        because=arguments.because,
        who=call.visitor.name,
    )
    return Reply(Pushed(pushed=1))


ROUTES: Final = (
    Route(
        "GET",
        "/queues/{queue}",
        "One queue with its first ten elements, without secrets.",
        "relay status --json` and `redis-cli LRANGE QUEUE 0 9",
        _queue,
        answer=QueueDetailDocument,
    ),
    Route(
        "POST",
        "/queues/{queue}/push",
        "Push one message after the checks of `relay push`.",
        "relay push QUEUE JSON",
        _push,
        PushArguments,
        answer=Pushed,
    ),
)
