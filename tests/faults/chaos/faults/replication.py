"""Another Redis takes over: by command, because the master died, or slot by slot."""

from __future__ import annotations

import asyncio
import random
import time

from redis import Redis as SyncRedis
from redis.exceptions import ResponseError

from tests.faults.chaos.faults.base import Fault, Skipped
from tests.faults.chaos.setting import PREFIX
from tests.faults.chaos.topology import Clustered, WithSentinel
from tests.support.redis_server import RedisServer

TAKEOVER = 30.0
"""Seconds within which another node must take over."""

LANES = ("hook", "pusher", "limited", "remembering")


class FailOver(Fault):
    """SENTINEL FAILOVER or CLUSTER FAILOVER: both sides know of it."""

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        topology = self.world.topology
        if isinstance(topology, WithSentinel):
            old = topology.set_up.master()
            with SyncRedis(port=topology.set_up.sentinels[0].port) as sentinel:
                try:
                    sentinel.execute_command("SENTINEL FAILOVER main")
                except ResponseError as error:
                    raise Skipped(f"the sentinels refuse, as another one is under way: {error}") from error
            topology.set_up.until_master_is_not(old)
        elif isinstance(topology, Clustered):
            lane = random.Random(self.planned.amount).choice(LANES)
            master = topology.node_for(f"{PREFIX}:{{{lane}}}:control")
            replica = _replica_of(topology, master)
            with SyncRedis(port=replica.port) as client:
                client.execute_command("CLUSTER FAILOVER")
            self.note = f"of the lane {lane}"


class KillMaster(Fault):
    """SIGKILL of a master; it comes back as a replica."""

    _dead: RedisServer | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        topology = self.world.topology
        if isinstance(topology, WithSentinel):
            self._dead = topology.set_up.master()
            self._dead.kill()
            _until_another(topology, self._dead)
        elif isinstance(topology, Clustered):
            lane = random.Random(self.planned.amount).choice(LANES)
            self._dead = topology.node_for(f"{PREFIX}:{{{lane}}}:control")
            self._dead.kill()
            topology.set_up.until_healthy(self._dead)
            self.note = f"of the lane {lane}"

    async def stop(self) -> None:
        if self._dead is not None:
            await asyncio.to_thread(self._dead.start)


class MoveSlots(Fault):
    """The slot of a lane moves to another master, key by key, while it is used."""

    async def start(self) -> None:
        topology = self.world.topology
        assert isinstance(topology, Clustered)
        rng = random.Random(self.planned.amount)
        key = f"{PREFIX}:{{{rng.choice(LANES)}}}:control"
        source = await asyncio.to_thread(topology.node_for, key)
        masters = await asyncio.to_thread(topology.masters)
        target = rng.choice([node for node in masters if node is not source])
        await asyncio.to_thread(topology.set_up.move_slot, key, source, target)
        self.note = key


def _until_another(topology: WithSentinel, dead: RedisServer) -> None:
    deadline = time.monotonic() + TAKEOVER
    while topology.masters() == [dead]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody took over within {TAKEOVER:g} s")
        time.sleep(0.05)


def _replica_of(topology: Clustered, master: RedisServer) -> RedisServer:
    with SyncRedis(port=master.port, decode_responses=True) as client:
        slots = client.execute_command("CLUSTER SLOTS")
    for _, _, first, *replicas in slots:
        if first[1] == master.port and replicas:
            return next(node for node in topology.set_up.nodes if node.port == replicas[0][1])
    raise Skipped(f"the master at port {master.port} has no replica")


REPLICATION: dict[str, type[Fault]] = {
    "fail over": FailOver,
    "kill master": KillMaster,
    "move slots": MoveSlots,
}
