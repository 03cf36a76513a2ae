"""Commands to the cluster node that has the slot of one key, over a connection of their own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.exceptions import AskError, ClusterError, MovedError, TryAgainError

from relay.redis_client.connection import Channel, Word

if TYPE_CHECKING:
    from redis.asyncio import RedisCluster
    from redis.asyncio.cluster import ClusterNode

ATTEMPTS = 16
"""Redirections after which a command fails, as in redis-py."""

MIGRATION_DELAY = 0.05
"""Seconds between two attempts while the keys of the slot are being moved."""


class SlotChannel:
    """A channel for commands whose keys are in the slot of `key`. It follows the slot to other nodes.

    redis-py's own `execute_command` reads a reply of any size into memory several times.
    """

    def __init__(self, client: RedisCluster, key: str, *, longest: int) -> None:
        """`longest`: see Channel."""
        self._client = client
        self._channel = Channel(_SlotConnections(client, key), longest=longest)

    async def execute(self, *words: Word) -> Any:
        """Return the reply. Raises the errors of redis-py; the command may or may not have run in that
        case."""
        for _ in range(ATTEMPTS):
            try:
                return await self._channel.execute(*words)
            except MovedError as error:
                await self._client.nodes_manager.move_slot(error)
                await self._channel.close()
            except (AskError, TryAgainError):
                # A command may block on two keys of a slot only on the node that has all keys of the slot.
                await asyncio.sleep(MIGRATION_DELAY)
        raise ClusterError("the slot is being moved to another node")

    async def close(self) -> None:
        """Close the connection. Commands in flight fail."""
        await self._channel.close()


class _SlotConnections:
    """Lends connections to the node that has the slot of a key."""

    def __init__(self, client: RedisCluster, key: str) -> None:
        self._client = client
        self._key = key
        self._nodes: dict[Any, ClusterNode] = {}

    async def get_connection(self) -> Any:
        await self._client.initialize()
        node = self._client.get_node_from_key(self._key)
        assert node is not None, "only replicas may be missing"
        connection: Any = node.acquire_connection()
        self._nodes[connection] = node
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        self._nodes.pop(connection).release(connection)
