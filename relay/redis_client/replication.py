"""Waits until a replica has a write to one slot of a cluster, before the original is deleted in another slot.

A failover loses writes that the old master had not yet sent to its replicas. A replica applies the writes of
one master in order, so within a slot it never has the deletion of an element without the write that preceded
it. Two slots may have two masters: the lane's may die with the message after the queue's has deleted it.
"""

from __future__ import annotations

import time

from relay.errors import StoreError
from relay.redis_client.client import REDIS_ERRORS, Client, describe, raise_if_cancelled
from relay.redis_client.topology import is_cluster

REPLICA_TIMEOUT = 1.0
"""Seconds to wait for a replica to confirm."""

REST = 10.0
"""Seconds without further waits for a node whose replicas did not confirm in time: the work continues."""


class Replicas:
    """The replicas of a cluster. Any other Redis has nothing to wait for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._resting: dict[str, float] = {}

    async def wait_for_replica(self, key: str) -> bool:
        """Return when a replica has all writes so far to the node of `key`, which is a string of relay's own.

        Returns False if there is no replica, or none confirms within `REPLICA_TIMEOUT`. Raises StoreError.
        """
        client = self._client
        if not is_cluster(client):
            return False
        try:
            nodes = client.nodes_manager.slots_cache.get(client.keyslot(key), [])
            if len(nodes) < 2 or self._resting.get(nodes[0].name, 0.0) > time.monotonic():
                return False
            # WAIT covers only writes of its own connection; a pipeline to one node is one connection.
            async with client.pipeline() as pipe:
                pipe.execute_command("SET", key, 1, "PX", 60_000)
                pipe.execute_command("WAIT", 1, round(REPLICA_TIMEOUT * 1000), target_nodes=nodes[0])
                _, reached = await pipe.execute()
        except REDIS_ERRORS as error:
            raise StoreError(f"WAIT: {describe(error)}") from error
        raise_if_cancelled()
        if not reached:
            self._resting[nodes[0].name] = time.monotonic() + REST
            # Short commands use this module too, and structlog loads rich.
            import structlog

            structlog.get_logger().warning(
                "no replica confirms writes; a failover now may lose messages", node=nodes[0].name
            )
        return bool(reached)
