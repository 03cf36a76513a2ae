"""Push one message by hand, after the checks of `relay push`."""

from __future__ import annotations

import asyncio

from relay.errors import UsageError
from relay.operations.dead_edit import OpenIntake
from relay.redis_client.client import Client
from relay.settings.models import QueueSettings, Settings
from relay.store import audit
from relay.store.audit import AuditEntry
from relay.store.queue import push_all
from relay.text import enumerated


def queue_named(settings: Settings, name: str) -> QueueSettings:
    """Return a queue of the file. Raises UsageError if it does not name this one."""
    found = next((queue for queue in settings.queues if queue.name == name), None)
    if found is None:
        names = enumerated(queue.name for queue in settings.queues)
        raise UsageError(f"no queue {name!r} in {settings.path}; known: {names}")
    return found


async def push_by_hand(
    client: Client,
    settings: Settings,
    queue: str,
    text: str,
    open_intake: OpenIntake,
    *,
    because: str,
    who: str,
) -> None:
    """Push one message. Raises UsageError if a worker or the provider would refuse it, StoreError."""
    queue_named(settings, queue)
    element = text.strip().encode("utf-8", "surrogateescape")
    # It loads the adapters.
    intake = await asyncio.to_thread(open_intake, client)
    if reason := intake.check(queue, element):
        raise UsageError(reason)
    await push_all(client, queue, [element])
    why = f"to the queue {queue}: {because}" if because else f"to the queue {queue}"
    await audit.record(client, settings.redis.prefix, AuditEntry("push", who, why=why))
