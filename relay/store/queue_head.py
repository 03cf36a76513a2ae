"""The first elements of a queue, for operators. Read only."""

from __future__ import annotations

from dataclasses import dataclass

from relay.errors import StoreError
from relay.redis_client.client import Client
from relay.store.keys import QueueKeys
from relay.store.reading import read_all
from relay.store.scripting import script

MOST = 10
"""Elements."""

LONGEST = 8 * 1024
"""Bytes of each."""

_FULL = 8 * 1024 * 1024
"""Bytes of elements that Redis reads for one answer."""


@dataclass(frozen=True, slots=True)
class HeadElement:
    """One element. `beginning` may be cut; `size` is its real length in bytes."""

    beginning: bytes
    size: int
    deferred: bool = False
    """Whether its lane refuses messages, so that it waits outside the queue."""

    @property
    def is_cut(self) -> bool:
        return self.size > len(self.beginning)


async def read_head(client: Client, prefix: str, queue: str, most: int = MOST) -> list[HeadElement]:
    """Return the elements that are fetched next. Raises StoreError."""
    keys = QueueKeys.of(prefix, queue)
    (lanes,), error = await read_all(client, ("HKEYS", keys.deferred))
    if error:
        raise StoreError(error)
    deferred = [keys.deferred_for(lane.decode()) for lane in lanes or ()]
    reply = await script("queue_head").run(client, (*deferred, keys.staged, queue), most, LONGEST, _FULL)
    rows = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    return [
        HeadElement(beginning, size, deferred=number <= len(deferred)) for number, size, beginning in rows
    ]
