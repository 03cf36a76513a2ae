"""Redis as the run has it: one server, or one with replicas under Sentinel, or a cluster."""

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

from chaos.messages import OCCUPIED_KEY
from chaos.setting import PREFIX, QUEUES
from testing.redis_cluster import RedisCluster
from testing.redis_sentinel import RedisSentinel
from testing.redis_server import RedisServer, binaries

DURABLE = ("--appendfsync", "always")
"""What Redis acknowledged is on disk."""


WORKER, WORKER_PASSWORD = "worker", "for-a-run"
WORKER_USER = (
    *("--user", WORKER, "on", f">{WORKER_PASSWORD}", "+@all", "&*", f"~{PREFIX}:*"),
    *(f"~{queue}" for queue in QUEUES),
    *("~receipts:[0-9]*", f"~{OCCUPIED_KEY}"),
)
"""A user in Redis with the rights that docs/operations.md names; it may not write to one of the lists that
messages name for their receipts."""


class Topology(ABC):
    """What is the same for all: where the masters are, and how to end."""

    name = ""
    acknowledged_by = 0
    """Replicas that must have a message before it counts as pushed."""

    @abstractmethod
    def start(self) -> None:
        """Return once it takes writes."""

    @abstractmethod
    def stop(self) -> None:
        """End all of its processes."""

    @property
    @abstractmethod
    def url(self) -> str:
        """What a configuration has as `redis.url`."""

    def as_worker(self, url: str) -> str:
        """`url` with the user that workers have in Redis."""
        return url

    @abstractmethod
    def masters(self) -> Sequence[RedisServer]:
        """The nodes that take writes now. Raises RedisError or LookupError in between."""

    def node_for(self, key: str) -> RedisServer:
        """The master that has this key. Raises as `masters` does."""
        return self.masters()[0]

    def nodes(self) -> Sequence[RedisServer]:
        """All of them: who is a master may change between a fault and its end."""
        return self.masters()

    def steady(self) -> bool:
        """Whether each master has a replica that could take over. Raises RedisError or LookupError."""
        return True

    async def each(self, *command: Any) -> None:
        """Run a command on every node; those that do not answer are passed over."""
        for node in self.nodes():
            async with direct(node) as client:
                with suppress(RedisError, OSError):
                    await client.execute_command(*command)


class Single(Topology):
    """One server that writes everything to disk before it answers."""

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
    """Several servers that are one Redis."""

    nodes: list[RedisServer]

    @property
    def url(self) -> str: ...
    def start(self) -> object: ...
    def stop(self) -> None: ...


SetUp = TypeVar("SetUp", bound=Nodes)


class Replicated(Topology, Generic[SetUp]):
    """Masters with replicas, of which one takes over: `set_up` runs them."""

    acknowledged_by = 1

    def __init__(self, set_up: SetUp) -> None:
        self.set_up = set_up

    def start(self) -> None:
        self.set_up.start()

    def stop(self) -> None:
        self.set_up.stop()

    @property
    def url(self) -> str:
        return self.set_up.url

    def nodes(self) -> Sequence[RedisServer]:
        return self.set_up.nodes

    def steady(self) -> bool:
        return all(map(_has_replica, self.masters()))


class WithSentinel(Replicated[RedisSentinel]):
    """A master, one replica and three sentinels.

    With more replicas one of them could acknowledge what is lost when the other one takes over.
    """

    name = "sentinel"

    def __init__(self, folder: Path) -> None:
        super().__init__(RedisSentinel(newest(), folder / "sentinel", replicas=1))

    def masters(self) -> Sequence[RedisServer]:
        try:
            return [self.set_up.master()]
        except StopIteration:  # which no future can hold
            raise LookupError("the sentinels name an unknown master") from None


class Clustered(Replicated[RedisCluster]):
    """Three masters with a replica each."""

    name = "cluster"

    def __init__(self, folder: Path) -> None:
        super().__init__(RedisCluster(newest(), folder / "cluster", masters=3, replicas=1))

    def steady(self) -> bool:
        views = set()
        for node in self.set_up.nodes:
            with SyncRedis(port=node.port, socket_timeout=1, decode_responses=True) as client:
                if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    return False
                views.add(frozenset(entry[2][1] for entry in client.execute_command("CLUSTER SLOTS")))
        return len(views) == 1 and super().steady()

    def masters(self) -> Sequence[RedisServer]:
        for node in self.set_up.nodes:
            with suppress(RedisError), SyncRedis(port=node.port, socket_timeout=1) as client:
                ports = {master[1] for _, _, master, *_ in client.execute_command("CLUSTER SLOTS")}
                return [other for other in self.set_up.nodes if other.port in ports]
        raise LookupError("no node of the cluster answers")

    def node_for(self, key: str) -> RedisServer:
        for node in self.set_up.nodes:
            with (
                suppress(RedisError, StopIteration, LookupError),
                SyncRedis(port=node.port, socket_timeout=1) as client,
            ):
                slot = client.execute_command("CLUSTER KEYSLOT", key)
                for first, last, master, *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(other for other in self.set_up.nodes if other.port == master[1])
        raise LookupError(f"nobody has the slot of {key}")


def _has_replica(master: RedisServer) -> bool:
    with SyncRedis(port=master.port, socket_timeout=1) as client:
        replication = client.info("replication")
    return replication["role"] == "master" and any(
        isinstance(value, dict) and value.get("state") == "online" for value in replication.values()
    )


def direct(node: RedisServer) -> Redis:
    """A client of the harness's own: no proxy, one connection, nothing repeated."""
    return Redis(
        port=node.port,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        single_connection_client=True,
    )


def make_topology(name: str, folder: Path, binary: str | None = None) -> Topology:
    """`binary`, of the single server, may be a wrapper that sets its clock."""
    match name:
        case "single":
            return Single(folder, binary)
        case "sentinel":
            return WithSentinel(folder)
        case "cluster":
            return Clustered(folder)
    raise ValueError(f"topology {name!r}: there are single, sentinel, cluster")


def newest() -> str:
    """The newest redis-server of this machine."""
    found = binaries()
    return found[max(found)]
