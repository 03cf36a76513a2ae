"""The queues and lanes in which dead workers may hold elements and messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from relay.engine.router import Router
from relay.redis_client.client import Client
from relay.settings.options import ProviderOptions
from relay.store.fleet import WorkerInfo
from relay.store.lane import Lane
from relay.store.queue import Queue, holders_of


class Holdings:
    """The queues and lanes of all workers, as this worker sees them."""

    def __init__(
        self, client: Client, prefix: str, own: str, lanes: Mapping[str, Lane], routers: Mapping[str, Router]
    ) -> None:
        """`own` is the name of this worker. `lanes` by provider and `routers` by queue are those of its
        configuration."""
        self.lanes = lanes
        self.routers = routers
        self._client = client
        self._prefix = prefix
        self._own = own

    def queue(self, name: str, worker: str = "") -> Queue:
        """The queue as a worker sees it; without a name, as this worker does."""
        return Queue(self._client, self._prefix, name, worker or self._own)

    def lane(self, name: str) -> Lane:
        """The lane of a provider. One that our file no longer names keeps its messages in their order."""
        return self.lanes.get(name) or Lane(
            self._client, self._prefix, name, ProviderOptions(type=""), self._own
        )

    async def holders(self) -> dict[str, list[str] | None]:
        """Return the workers with fetches of each of our queues that are not acknowledged; None for a queue
        that cannot be read. Raises StoreError."""
        names = list(self.routers)
        return dict(zip(names, await holders_of(self._client, self._prefix, names), strict=True))

    def queues_of(self, *workers: WorkerInfo) -> Sequence[str]:
        """The names of the workers' queues; for a worker with an unreadable `WorkerInfo`, those of ours."""
        return _sorted(worker.queues or self.routers for worker in workers)

    def lanes_of(self, *workers: WorkerInfo) -> Sequence[str]:
        """The names of the workers' lanes; for a worker with an unreadable `WorkerInfo`, those of ours."""
        return _sorted(worker.lanes or self.lanes for worker in workers)


def _sorted(names: Iterable[Iterable[str]]) -> Sequence[str]:
    return sorted({name for group in names for name in group})
