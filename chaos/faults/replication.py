"""Failovers: by command, after the death of a master, or slot by slot."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from contextlib import suppress

from redis import Redis as SyncRedis
from redis.exceptions import RedisError, ResponseError

from chaos.configuration import PREFIX
from chaos.faults.base import Fault, Skipped
from chaos.topology import Clustered, WithSentinel
from testing.redis_server import RedisServer

TAKEOVER = 30.0
"""Seconds within which another node must take over."""

LANES = ("hook", "pusher", "limited", "remembering")


class ReplicationFault(Fault, ABC):
    """A fault that starts in a steady state: without a replica, nobody serves the slots of a dead master, and
    an operator must repair a slot that moves meanwhile."""

    async def start(self) -> None:
        await self._until_steady()
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        await asyncio.to_thread(self._stop)

    async def _until_steady(self) -> None:
        deadline = time.monotonic() + TAKEOVER
        while True:
            with suppress(RedisError, LookupError):
                if await asyncio.to_thread(self.harness.topology.steady):
                    return
            if time.monotonic() > deadline:
                raise Skipped(f"the nodes did not reach a steady state within {TAKEOVER:g} s")
            await asyncio.sleep(0.1)  # the nodes send no notification of it

    @abstractmethod
    def _start(self) -> None:
        """Inject the fault, in a thread. Raises Skipped."""

    def _stop(self) -> None:
        """Undo the fault, if there is anything to undo."""


class FailOver(ReplicationFault):
    """SENTINEL FAILOVER or CLUSTER FAILOVER: both nodes cooperate."""

    def _start(self) -> None:
        topology = self.harness.topology
        if isinstance(topology, WithSentinel):
            old = topology.servers.master()
            with SyncRedis(port=topology.servers.sentinels[0].port) as sentinel:
                try:
                    sentinel.execute_command("SENTINEL FAILOVER main")
                except ResponseError as error:
                    raise Skipped(
                        f"the sentinels refuse because another failover is in progress: {error}"
                    ) from error
            topology.servers.until_master_is_not(old)
        elif isinstance(topology, Clustered):
            lane = random.Random(self.planned.amount).choice(LANES)
            master = topology.node_for(f"{PREFIX}:{{{lane}}}:control")
            replica = _replica_of(topology, master)
            with SyncRedis(port=replica.port) as client:
                client.execute_command("CLUSTER FAILOVER")
            self.note = f"of the lane {lane}"


class KillMaster(ReplicationFault):
    """SIGKILL of a master; it returns as a replica."""

    _dead: RedisServer | None = None

    def _start(self) -> None:
        topology = self.harness.topology
        if isinstance(topology, WithSentinel):
            self._dead = topology.servers.master()
            self._dead.kill()
            _until_another(topology, self._dead)
        elif isinstance(topology, Clustered):
            lane = random.Random(self.planned.amount).choice(LANES)
            self._dead = topology.node_for(f"{PREFIX}:{{{lane}}}:control")
            self._dead.kill()
            topology.servers.until_healthy(self._dead)
            self.note = f"of the lane {lane}"

    def _stop(self) -> None:
        if self._dead is not None:
            self._dead.start()


class MoveSlots(ReplicationFault):
    """The slot of a lane moves to another master, key by key, while it is in use."""

    def _start(self) -> None:
        topology = self.harness.topology
        assert isinstance(topology, Clustered)
        rng = random.Random(self.planned.amount)
        key = f"{PREFIX}:{{{rng.choice(LANES)}}}:control"
        source = topology.node_for(key)
        target = rng.choice([node for node in topology.masters() if node is not source])
        topology.servers.move_slot(key, source, target)
        self.note = key


def _until_another(topology: WithSentinel, dead: RedisServer) -> None:
    deadline = time.monotonic() + TAKEOVER
    while topology.masters() == [dead]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no node took over within {TAKEOVER:g} s")
        time.sleep(0.05)  # only polling finds the new master


def _replica_of(topology: Clustered, master: RedisServer) -> RedisServer:
    with SyncRedis(port=master.port, decode_responses=True) as client:
        slots = client.execute_command("CLUSTER SLOTS")
    for _, _, first, *replicas in slots:
        if first[1] == master.port and replicas:
            return next(node for node in topology.servers.nodes if node.port == replicas[0][1])
    raise Skipped(f"the master at port {master.port} has no replica")


REPLICATION: dict[str, type[Fault]] = {
    "fail over": FailOver,
    "kill master": KillMaster,
    "move slots": MoveSlots,
}
