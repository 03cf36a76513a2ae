"""Waits until what was written in one slot of a cluster is at a replica, before it is forgotten in another.

A failover loses what the old master had not sent to its replicas yet. Within one stream of replication what
came first is never lost alone: an element that was forgotten here was put there before. Across the slots of
a cluster it can be: the lane's master dies with it, while the queue's has forgotten it.
"""

from __future__ import annotations

import time

from relay.errors import StoreError
from relay.redis_client.client import TROUBLE, Client, describe, heed_cancellation
from relay.redis_client.topology import is_cluster

PATIENCE = 1.0
"""Seconds to wait for a replica."""

REST = 10.0
"""Seconds for which a node is not asked again whose replicas did not follow in time: the work goes on."""


class Replicas:
    """The replicas of a cluster; of any other Redis there is nothing to wait for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._resting: dict[str, float] = {}

    async def follow(self, key: str) -> bool:
        """Return when a replica has all that was written so far on the node of `key`, a string of our own.

        False where there is no replica, or none within `PATIENCE`. Raises StoreError.
        """
        client = self._client
        if not is_cluster(client):
            return False
        try:
            nodes = client.nodes_manager.slots_cache.get(client.keyslot(key), [])
            if len(nodes) < 2 or self._resting.get(nodes[0].name, 0.0) > time.monotonic():
                return False
            # WAIT knows only of what its own connection wrote; a pipeline to one node is one connection.
            async with client.pipeline() as pipe:
                pipe.execute_command("SET", key, 1, "PX", 60_000)
                pipe.execute_command("WAIT", 1, round(PATIENCE * 1000), target_nodes=nodes[0])
                _, reached = await pipe.execute()
        except TROUBLE as error:
            raise StoreError(f"WAIT: {describe(error)}") from error
        heed_cancellation()
        if not reached:
            self._resting[nodes[0].name] = time.monotonic() + REST
            # Short commands use this module too, and structlog loads rich.
            import structlog

            structlog.get_logger().warning(
                "no replica confirms writes; a failover now may lose messages", node=nodes[0].name
            )
        return bool(reached)
