"""The kind of Redis behind a client: one server, the master that Sentinel names, or a cluster.

All other modules use these functions, because the location of a key decides which keys one script may use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Client = Redis | RedisCluster


def is_cluster(client: Client) -> TypeIs[RedisCluster]:
    """Return whether keys are on several nodes."""
    # Both are protocol classes, for which isinstance() is slow unless the class is exactly the same.
    return not isinstance(client, Redis)


@dataclass(frozen=True, slots=True)
class Topology:
    """Either `one` or `cluster` is set. `sentinel` is the pool of `one` if Sentinel names its master."""

    one: Redis | None = None
    cluster: RedisCluster | None = None
    sentinel: SentinelConnectionPool | None = None

    @classmethod
    def of(cls, client: Client) -> Topology:
        if is_cluster(client):
            return cls(cluster=client)
        pool = client.connection_pool
        return cls(one=client, sentinel=pool if isinstance(pool, SentinelConnectionPool) else None)

    @property
    def is_one(self) -> bool:
        """Whether one Redis holds all keys, so that a script may use any of them and scripts run in order."""
        return self.cluster is None

    def same_slot(self, key: str, other: str) -> bool:
        """Return whether one script may use both keys."""
        return self.cluster is None or bool(self.cluster.keyslot(key) == self.cluster.keyslot(other))
