"""The application: pushes each message at its time, and records Redis's answer."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from chaos.evidence import Pushed
from chaos.messages import Push, element
from chaos.topology import Topology, direct

TICK = 0.02
MOST = 100
"""Elements in one RPUSH."""

REPLICA_WAIT = 1000
"""Milliseconds to wait for a replica."""


class Producer:
    """Pushes elements in the order of the plan, one RPUSH at a time, each element once.

    If there is no answer, it is uncertain whether the elements were pushed. If Redis refuses them, they were
    not, and are pushed again.
    """

    def __init__(self, topology: Topology, urls: Mapping[str, str]) -> None:
        self._topology = topology
        self._urls = urls
        self._clients: dict[int, Redis] = {}
        self.pushed: dict[int, Pushed] = {}
        self.refusals = 0

    async def run(self, pushes: Sequence[Push]) -> None:
        """Push everything. Times are relative to the start of this call."""
        start, index = time.time(), 0
        try:
            while index < len(pushes):
                now = time.time() - start
                due = index
                while due < len(pushes) and pushes[due].at <= now and due - index < MOST:
                    due += 1
                by_queue: dict[str, list[Push]] = defaultdict(list)
                for push in pushes[index:due]:
                    by_queue[push.queue].append(push)
                for queue, batch in by_queue.items():
                    await self._push(queue, batch)
                index = due
                if index < len(pushes) and pushes[index].at > now:
                    await asyncio.sleep(TICK)  # the plan determines when the next one is due
        finally:
            for client in self._clients.values():
                await client.aclose()

    async def _push(self, queue: str, batch: Sequence[Push]) -> None:
        elements = [element(push, self._urls) for push in batch]
        while True:
            client = await self._ready(queue)
            started = time.time()
            try:
                certain = await self._rpush(client, queue, elements)
            except ResponseError:
                # Out of memory, busy, moved, read only: Redis has done nothing.
                self.refusals += 1
                await asyncio.sleep(0.05)  # the same answer comes until the fault ends
                continue
            except (RedisError, OSError, TimeoutError):
                certain = False
            at = time.time()
            self.pushed.update((push.number, Pushed(started, at, certain)) for push in batch)
            if not certain:
                await self._drop(client)
            return

    async def _rpush(self, client: Redis, queue: str, elements: Sequence[bytes]) -> bool:
        if not self._topology.acknowledged_by:
            await client.rpush(queue, *elements)
            return True
        async with client.pipeline(transaction=False) as pipe:
            pipe.rpush(queue, *elements)
            pipe.execute_command("WAIT", self._topology.acknowledged_by, REPLICA_WAIT)
            pushed, replicas = await pipe.execute(raise_on_error=False)
        if isinstance(pushed, Exception):
            raise pushed
        return not isinstance(replicas, Exception) and replicas >= self._topology.acknowledged_by

    async def _ready(self, queue: str) -> Redis:
        """Return a connection that has just answered, so that a later failure means a push without an
        answer."""
        while True:
            try:
                node = await asyncio.to_thread(self._topology.node_for, queue)
                client = self._clients.get(node.port)
                if client is None:
                    client = self._clients[node.port] = direct(node)
                await client.ping()
            except (RedisError, OSError, LookupError, StopIteration, RuntimeError, TimeoutError):
                for each in list(self._clients.values()):
                    await self._drop(each)
                await asyncio.sleep(0.1)  # Redis sends no notification when it is back
            else:
                return client

    async def _drop(self, client: Redis) -> None:
        for port, known in list(self._clients.items()):
            if known is client:
                del self._clients[port]
        with suppress(RedisError, OSError):
            await client.aclose()
