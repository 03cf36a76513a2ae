"""The Redis of a run: one server, a master with a replica under Sentinel, or a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chaos.configuration import PREFIX, QUEUES
from chaos.messages import WRONG_TYPE_KEY
from testing.redis_cluster import RedisCluster
from testing.redis_sentinel import RedisSentinel
from testing.redis_server import RedisServer, binaries

DURABLE = ("--appendfsync", "always")
"""Redis acknowledges only data that is on disk."""


WORKER, WORKER_PASSWORD = "worker", "for-a-run"
WORKER_USER = (
    *("--user", WORKER, "on", f">{WORKER_PASSWORD}", "+@all", "&*", f"~{PREFIX}:*"),
    *(f"~{queue}" for queue in QUEUES),
    *("~receipts:[0-9]*", f"~{WRONG_TYPE_KEY}"),
)
"""A Redis user with the rights that docs/how-to/prepare-redis.md lists. It may not write to one of the lists
that messages name in `reply_to`."""


class Topology(ABC):
    """The interface of all topologies."""

    name = ""
    acknowledged_by = 0
    """Replicas that must have a message before its push is acknowledged."""

    @abstractmethod
    def start(self) -> None:
        """Return when it accepts writes."""

    @abstractmethod
    def stop(self) -> None:
        """End all processes."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The value of `redis.url` in a configuration."""

    def as_worker(self, url: str) -> str:
        """Return `url` with the user of the workers."""
        return url

    @abstractmethod
    def masters(self) -> Sequence[RedisServer]:
        """Return the nodes that accept writes now. Raises RedisError or LookupError during a failover."""

    def node_for(self, key: str) -> RedisServer:
        """Return the master that has this key. Raises the errors of `masters`."""
        return self.masters()[0]

    def nodes(self) -> Sequence[RedisServer]:
        """Return all nodes, because the master may change between a fault and its end."""
        return self.masters()

    def steady(self) -> bool:
        """Return whether each master has a replica that could take over. Raises RedisError or LookupError."""
        return True

    async def each(self, *command: Any) -> None:
        """Run a command on every node; skip those that do not answer."""
        for node in self.nodes():
            with suppress(RedisError, OSError):
                async with direct(node) as client:
                    await client.execute_command(*command)


class Single(Topology):
    """One server that writes to disk before it answers."""

    name = "single"

    def __init__(self, folder: Path, binary: str | None = None) -> None:
        self.server = RedisServer(binary or newest(), folder / "redis", *DURABLE, *WORKER_USER)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    @property
    def url(self) -> str:
        return self.server.url

    def as_worker(self, url: str) -> str:
        return url.replace("redis://", f"redis://{WORKER}:{WORKER_PASSWORD}@")

    def masters(self) -> Sequence[RedisServer]:
        return [self.server]


class Nodes(Protocol):
    """Several servers that form one Redis."""

    nodes: list[RedisServer]

    @property
    def url(self) -> str: ...
    def start(self) -> object: ...
    def stop(self) -> None: ...


Servers = TypeVar("Servers", bound=Nodes)


class Replicated(Topology, Generic[Servers]):
    """Masters with replicas that can take over. `servers` runs them."""

    acknowledged_by = 1

    def __init__(self, servers: Servers) -> None:
        self.servers = servers

    def start(self) -> None:
        self.servers.start()

    def stop(self) -> None:
        self.servers.stop()

    @property
    def url(self) -> str:
        return self.servers.url

    def nodes(self) -> Sequence[RedisServer]:
        return self.servers.nodes

    def steady(self) -> bool:
        return all(map(_has_replica, self.masters()))


class WithSentinel(Replicated[RedisSentinel]):
    """A master, one replica and three sentinels.

    With more replicas, one of them could acknowledge data that is lost when another one takes over.
    """

    name = "sentinel"

    def __init__(self, folder: Path) -> None:
        super().__init__(RedisSentinel(newest(), folder / "sentinel", replicas=1))

    def masters(self) -> Sequence[RedisServer]:
        try:
            return [self.servers.master()]
        except StopIteration:  # a future cannot hold it
            raise LookupError("the sentinels name an unknown master") from None


class Clustered(Replicated[RedisCluster]):
    """Three masters with one replica each."""

    name = "cluster"

    def __init__(self, folder: Path) -> None:
        super().__init__(RedisCluster(newest(), folder / "cluster", masters=3, replicas=1))

    def steady(self) -> bool:
        views = set()
        for node in self.servers.nodes:
            with SyncRedis(port=node.port, socket_timeout=1, decode_responses=True) as client:
                if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    return False
                views.add(frozenset(entry[2][1] for entry in client.execute_command("CLUSTER SLOTS")))
        return len(views) == 1 and super().steady()

    def masters(self) -> Sequence[RedisServer]:
        for node in self.servers.nodes:
            with suppress(RedisError), SyncRedis(port=node.port, socket_timeout=1) as client:
                ports = {master[1] for _, _, master, *_ in client.execute_command("CLUSTER SLOTS")}
                return [other for other in self.servers.nodes if other.port in ports]
        raise LookupError("no node of the cluster answers")

    def node_for(self, key: str) -> RedisServer:
        for node in self.servers.nodes:
            with (
                suppress(RedisError, StopIteration, LookupError),
                SyncRedis(port=node.port, socket_timeout=1) as client,
            ):
                slot = client.execute_command("CLUSTER KEYSLOT", key)
                for first, last, master, *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(other for other in self.servers.nodes if other.port == master[1])
        raise LookupError(f"no node has the slot of {key}")


def _has_replica(master: RedisServer) -> bool:
    with SyncRedis(port=master.port, socket_timeout=1) as client:
        replication = client.info("replication")
    return replication["role"] == "master" and any(
        isinstance(value, dict) and value.get("state") == "online" for value in replication.values()
    )


def direct(node: RedisServer) -> Redis:
    """Return a client of the harness itself: without proxy, on one connection, without retries."""
    return Redis(
        port=node.port,
        socket_timeout=5,
        # A stopped server accepts connections, and a dead one refuses them: only a busy machine takes long.
        socket_connect_timeout=30,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        single_connection_client=True,
    )


def make_topology(name: str, folder: Path, binary: str | None = None) -> Topology:
    """Build a topology. For a single server, `binary` may be a wrapper that sets its clock."""
    match name:
        case "single":
            return Single(folder, binary)
        case "sentinel":
            return WithSentinel(folder)
        case "cluster":
            return Clustered(folder)
    raise ValueError(f"topology {name!r}: must be single, sentinel or cluster")


def newest() -> str:
    """Return the newest redis-server of this machine."""
    found = binaries()
    return found[max(found)]
