"""A real Redis Cluster on free loopback ports: masters, and optional replicas."""

from __future__ import annotations

import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from testing.ports import free_port_with_bus
from testing.redis_server import RedisServer

SLOTS = 16384
START_TIMEOUT = 120

NODE_TIMEOUT = 1000
"""Milliseconds without an answer after which a replica takes the place of its master."""

LONG_NODE_TIMEOUT = 60_000


class RedisCluster:
    """`nodes` are the masters, followed by the replicas, which are assigned to the masters in turn."""

    def __init__(self, binary: str, folder: Path, *, masters: int = 3, replicas: int = 0) -> None:
        # Without replicas, a short timeout finds nothing but a busy machine, and closes the cluster.
        timeout = NODE_TIMEOUT if replicas else LONG_NODE_TIMEOUT
        limit = ("--cluster-node-timeout", str(timeout))
        options = ("--cluster-enabled", "yes", *limit, "--protected-mode", "no")
        self.masters = masters
        self.nodes = [
            RedisServer(binary, folder / str(number), *options) for number in range(masters * (1 + replicas))
        ]
        for node in self.nodes:
            node.port = free_port_with_bus()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[: self.masters])

    def start(self) -> RedisCluster:
        try:
            for node in self.nodes:
                node.start()
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def _form(self) -> None:
        clients = [Redis(port=node.port, decode_responses=True) for node in self.nodes]
        try:
            for number, client in enumerate(clients):
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < self.masters:
                    first, last = (SLOTS * part // self.masters for part in (number, number + 1))
                    client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
            for client in clients[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
            self._until(lambda: all(len(client.cluster("nodes")) == len(clients) for client in clients))
            for number, client in enumerate(clients[self.masters :]):
                master = clients[number % self.masters].execute_command("CLUSTER MYID")
                client.execute_command("CLUSTER REPLICATE", master)
            self._until(
                lambda: all(
                    client.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for client in clients
                )
            )
        finally:
            for client in clients:
                client.close()

    def ensure_answers(self) -> None:
        """Undo leftovers of the previous test."""
        for node in self.nodes:
            node.ensure_answers()

    def master_of(self, key: str, dead: RedisServer | None = None) -> RedisServer:
        """Return the node that has the slot of a key, according to the living ones."""
        node = next(node for node in self.nodes if node is not dead)
        with Redis(port=node.port, decode_responses=True) as client:
            slot = client.execute_command("CLUSTER KEYSLOT", key)
            for first, last, master, *_ in client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last:
                    return next(node for node in self.nodes if node.port == master[1])
        raise LookupError(f"nobody has slot {slot}")

    def move_slot(self, key: str, source: RedisServer, target: RedisServer) -> None:
        """Move the slot of a key while it is in use, like `redis-cli --cluster reshard`."""
        with (
            Redis(port=source.port, decode_responses=True) as old,
            Redis(port=target.port, decode_responses=True) as new,
        ):
            slot = old.execute_command("CLUSTER KEYSLOT", key)
            ids = {client: client.execute_command("CLUSTER MYID") for client in (old, new)}
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[old])
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[new])
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                try:
                    old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
                except ResponseError as error:
                    if "CLUSTERDOWN" not in str(error):
                        raise
                    time.sleep(0.05)  # a busy machine: the target has taken another node for dead
            for client in (new, old):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[new])

    def until_healthy(self, dead: RedisServer) -> None:
        """Return when all slots are served without the dead node."""
        living = [node for node in self.nodes if node is not dead]

        def ready() -> bool:
            for node in living:
                with Redis(port=node.port, decode_responses=True) as client:
                    if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                        return False
                    slots = client.execute_command("CLUSTER SLOTS")
                    if any(master[1] == dead.port for _, _, master, *_ in slots):
                        return False
            return True

        self._until(ready)

    @staticmethod
    def _until(ready: object) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                if ready():  # type: ignore[operator]
                    return
            except RedisError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError("the cluster does not form")
            time.sleep(0.05)  # there is no notification

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
