"""A real Redis Cluster on free loopback ports: masters, and replicas where a test wants them."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.support.redis_server import RedisServer

SLOTS = 16384
START_TIMEOUT = 60


def free_port_with_bus() -> int:
    """A free port whose cluster bus port, 10,000 above it, is free as well."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port > 55_000:
                continue
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


class RedisCluster:
    """`nodes` are the masters, then the replicas, one of each master in turn."""

    def __init__(self, binary: str, folder: Path, *, masters: int = 3, replicas: int = 0) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--protected-mode", "no")
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
            time.sleep(0.05)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
