"""A real Sentinel setup on free loopback ports: a master, two replicas, three sentinels."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from testing.ports import free_port
from testing.redis_server import RedisServer

START_TIMEOUT = 120
NAME = "main"

_CONFIG = """\
port {port}
bind 127.0.0.1
protected-mode no
dir {folder}
logfile {folder}/sentinel.log
sentinel monitor {name} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {name} 600
sentinel failover-timeout {name} 3000
sentinel parallel-syncs {name} 2
"""


class SentinelServer:
    """One sentinel: the same binary, with a file that it rewrites."""

    def __init__(self, binary: str, folder: Path, master: int) -> None:
        self.port = free_port()
        folder.mkdir(parents=True)
        self._config = folder / "sentinel.conf"
        self._config.write_text(_CONFIG.format(port=self.port, folder=folder, name=NAME, master=master))
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, str(self._config), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class RedisSentinel:
    """`nodes[0]` is the first master; `master()` returns the current one."""

    def __init__(self, binary: str, folder: Path, *options: str, replicas: int = 2) -> None:
        quick = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        self.nodes = [
            RedisServer(binary, folder / f"redis-{number}", *quick, *options)
            for number in range(1 + replicas)
        ]
        self._replicas = replicas
        master = self.nodes[0].port
        for node in self.nodes[1:]:
            node.options += ("--replicaof", "127.0.0.1", str(master))
        self.sentinels = [
            SentinelServer(binary, folder / f"sentinel-{number}", master) for number in range(3)
        ]

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{nodes}/{NAME}/0"

    def start(self) -> RedisSentinel:
        try:
            for node in self.nodes:
                node.start()
            with Redis(port=self.nodes[0].port) as master:
                _until(lambda: _synchronised(master) == self._replicas, "the replicas do not follow")
            for sentinel in self.sentinels:
                sentinel.start()
            for sentinel in self.sentinels:
                with Redis(port=sentinel.port, decode_responses=True) as client:
                    _until(client.ping, "a sentinel does not start")
                    # Redis 7.0 and later; older sentinels find each other within some seconds.
                    with suppress(ResponseError):
                        client.execute_command("SENTINEL", "DEBUG", "PUBLISH-PERIOD", 300, "INFO-PERIOD", 100)
            for sentinel in self.sentinels:
                with Redis(port=sentinel.port, decode_responses=True) as client:
                    _until(partial(self._sees_all, client), "the sentinels do not meet")
        except BaseException:
            self.stop()
            raise
        return self

    def _sees_all(self, client: Redis) -> bool:
        masters: Any = client.sentinel_masters()
        (master,) = masters.values()
        return (master["num-slaves"], master["num-other-sentinels"]) == (self._replicas, 2)

    def master(self) -> RedisServer:
        """Return the node that the first sentinel names."""
        with Redis(port=self.sentinels[0].port, decode_responses=True) as client:
            _, port = client.sentinel_get_master_addr_by_name(NAME)
        return next(node for node in self.nodes if node.port == int(port))

    def fail_over(self) -> RedisServer:
        """Fail over to another node on command; the old master becomes a replica."""
        old = self.master()

        def moved() -> bool:
            if self.master() is not old:
                return True
            # The other sentinels may undo it, because they learn of it too late: repeat it until it holds.
            with Redis(port=self.sentinels[0].port) as client, suppress(ResponseError):
                client.execute_command("SENTINEL FAILOVER", NAME)
            return False

        _until(moved, "no failover")
        return self.until_master_is_not(old)

    def until_master_is_not(self, old: RedisServer) -> RedisServer:
        """Return the new master, when it accepts writes and has a replica."""

        def ready() -> bool:
            master = self.master()
            if master is old:
                return False
            with Redis(port=master.port) as client:
                return client.role()[0] == b"master" and _synchronised(client) > 0

        _until(ready, "no failover")
        return self.master()

    def until_all_follow(self, master: RedisServer) -> None:
        """Wait until all replicas follow: otherwise one that lacks recent writes might become the next
        master."""
        with Redis(port=master.port) as client:
            _until(lambda: _synchronised(client) == self._replicas, "not all replicas follow")

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        for node in self.nodes:
            node.stop()


def _synchronised(master: Redis) -> int:
    info = master.info("replication")
    return sum(info[f"slave{index}"]["state"] == "online" for index in range(info["connected_slaves"]))


def _until(ready: Callable[[], object], why: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with suppress(RedisError):
            if ready():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(why)
        time.sleep(0.02)  # there is no notification
