"""One queue: its numbers, and the elements that are fetched next."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import NotFound, Screen, Values
from relay.admin.console.screens.queues import queue_view
from relay.errors import StoreError
from relay.operations.without_secrets import element_text
from relay.redis_client.client import is_refusal
from relay.store.queue_head import MOST, HeadElement, read_head
from relay.text import enumerated, quote


async def _values(call: Call, sample: Sample) -> Values:
    name, services = call.part("queue"), call.services
    queue = next((each for each in sample.overview.queues if each.name == name), None)
    if queue is None:
        known = enumerated(quote(each.name) for each in sample.overview.queues)
        raise NotFound(f"There is no queue {quote(name)}. Known: {known}.")

    async def read() -> list[HeadElement]:
        try:
            return await read_head(await services.client(), services.prefix, name)
        except StoreError as error:
            if not is_refusal(error):
                raise
            return []  # the state of the queue names the reason

    first = await services.cache.get(("head", name), 0.9, read)
    view = queue_view(queue, call, sample)
    return {
        "view": view,
        "queue": queue,
        "first": [(element, element_text(element, services.redactor)) for element in first],
        "most": MOST,
        "example": '{"message": "hello"}' if _is_bare(call, name) else '{"payload": {"message": "hello"}}',
    }


def _is_bare(call: Call, name: str) -> bool:
    return any(queue.name == name and queue.format == "bare" for queue in call.settings.queues)


SCREEN = Screen("queue", "/queue/{queue}", "queue.html", _values)
