"""Fetches of large elements, which bypass Redis's Lua: see `large_bodies.py`."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import NoPermissionError, ResponseError

from relay.errors import StoreError
from relay.message import LARGE
from relay.redis_client.client import REDIS_ERRORS, Client, describe, raise_if_cancelled, transaction
from relay.redis_client.topology import is_cluster
from relay.store.keys import QueueKeys
from relay.store.scripting import script


class LargeFetches:
    """Fetches large elements for one worker, if nothing else has to be done in the same step."""

    def __init__(self, client: Client, keys: QueueKeys, worker: str, batch_id: str, most_bytes: int) -> None:
        self._server = None if is_cluster(client) else client
        """The Redis that runs transactions; None for a cluster, whose client is too slow at them."""
        self._worker = worker
        self._batch_id = batch_id
        self._most_bytes = most_bytes
        self._processing = keys.processing(worker)
        self._keys = (
            *(keys.queue, keys.staged, self._processing, keys.sequence(worker)),
            *(keys.outstanding, keys.last_sequence, keys.deferred),
        )
        self._size = 0.0
        """The mean size of the last elements."""
        self._may_run = True
        """Whether the user has the rights, as far as is known: SORT is among the dangerous commands."""

    @property
    def expected(self) -> bool:
        """Whether the next elements are probably large."""
        return self._server is not None and self._may_run and self._size >= LARGE

    def note(self, elements: Sequence[bytes]) -> None:
        """Learn from the elements of a fetch how large the next ones probably are."""
        self._size = sum(map(len, elements)) / len(elements) if elements else 0.0

    async def fetch(
        self, done: str, controls: Sequence[str], most: int
    ) -> tuple[str, int, list[bytes]] | None:
        """Return the number of a fetch, that of earlier ones, and the elements; None for a usual fetch.

        `done` is the number of the fetch that may be deleted, and `controls` are the control hashes of its
        lanes. Raises StoreError.
        """
        server = self._server
        if server is None:
            return None
        text = script("fetch_large").text
        most = min(most, max(1, int(self._most_bytes / self._size)))
        keys = (*self._keys, *controls)
        words = (self._worker, done, most, self._most_bytes * 5 // 4, self._batch_id)
        try:
            reply, elements = await transaction(
                server,
                ("EVAL", text, len(keys), *keys, *words),
                ("LRANGE", self._processing, 0, -1),
            )
        except ResponseError as error:
            reply, elements = error, ()  # such as OOM, or NOPERM for MULTI
        except REDIS_ERRORS as error:
            raise StoreError(f"fetch_large: {describe(error)}") from error
        raise_if_cancelled()
        if reply is None or isinstance(reply, ResponseError):
            # A usual fetch finds the same state, and reports what is wrong.
            self._may_run = self._may_run and not _lacks_rights(reply)
            self._size = 0.0
            return None
        self.note(elements)
        return reply[0].decode(), reply[1], elements


def _lacks_rights(error: ResponseError | None) -> bool:
    """Return whether the user may not run one of the commands. Scripts wrap this error."""
    text = str(error).lower()
    return isinstance(error, NoPermissionError) or any(word in text for word in _REFUSALS)


_REFUSALS = ("can't run this command", "permission", "unknown")
