"""Finds messages in queues: no worker has put them into a lane yet."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from relay.errors import MessageError
from relay.message import Message, parse_envelope
from relay.operations import reasons_to_wait
from relay.operations.found import Found, State
from relay.redis_client.client import Client
from relay.settings.models import Settings
from relay.store import lookup
from relay.store.lookup import Queued
from relay.store.overview import Overview, QueueStatus


def in_queues(
    client: Client, settings: Settings, overview: Overview, message_id: str
) -> list[Coroutine[Any, Any, list[Found]]]:
    """Return the search of each queue for elements that no worker has put into a lane yet."""
    workers = [member.info.worker for member in overview.workers]
    return [
        _in_queue(client, settings, queue, workers, message_id)
        for queue in overview.queues
        if queue.waiting or queue.taken
    ]


async def _in_queue(
    client: Client, settings: Settings, queue: QueueStatus, workers: Sequence[str], message_id: str
) -> list[Found]:
    found: list[Found] = []
    part, prefix = _same_in_json(message_id), settings.redis.prefix
    async for one in lookup.elements_with(client, prefix, queue.name, part, workers):
        if (read := _read(settings, one, message_id)) is not None:
            provider, message = read
            why = reasons_to_wait.queued(queue, one)
            found.append(
                Found(
                    provider,
                    message_id,
                    State.QUEUED,
                    queue=queue.name,
                    position=one.position,
                    why_not_now=why,
                    message=message,
                )
            )
    return list(dict.fromkeys(replace(one, attempts=()) for one in found))


def _same_in_json(text: str) -> str:
    """Return the longest part of a text that every JSON encoder writes alike."""
    return max(re.findall(r"[\w.:-]+", text, re.ASCII), key=len, default='"id"')


def _read(settings: Settings, queued: Queued, message_id: str) -> tuple[str, Message | None] | None:
    """Return the provider of an element, empty if it is unknown, and its message if it is valid.

    None if it has another id.
    """
    try:
        element: Any = msgspec.json.decode(queued.element)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(element, dict) or element.get("id") != message_id:
        return None
    named = element.get("provider")
    default = next((queue.provider for queue in settings.queues if queue.name == queued.queue), None)
    try:
        _, message = parse_envelope(queued.element, queued.queue, 0.0)
    except MessageError:
        message = None
    return named if isinstance(named, str) else default or "", message
