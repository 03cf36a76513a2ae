"""Everything that runs: Redis, the receivers, the worker hosts and their connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from redis.exceptions import RedisError

from chaos.catalogue import CLOCK_HOST, HOSTS, LOG_PIPE_HOSTS, SUPERVISED
from chaos.clocks import Clock, library, settable
from chaos.configuration import Configuration
from chaos.evidence import Window
from chaos.fleet import Host
from chaos.messages import WRONG_TYPE_KEY
from chaos.plan import Plan
from chaos.receivers import Receivers
from chaos.topology import Topology, direct, make_topology
from testing.relay_process import Finished, relay
from testing.tcp_proxy import TcpProxy, proxying

LAG_TICK = 0.05


class Harness:
    """The environment of a run. `windows` records the faults and their times."""

    def __init__(self, plan: Plan, folder: Path, topology: Topology, receivers: Receivers) -> None:
        self.plan = plan
        self.folder = folder
        self.topology = topology
        self.receivers = receivers
        self.configuration = Configuration.of(plan)
        self.hosts: dict[str, Host] = {}
        self.proxies: dict[str, TcpProxy] = {}
        self.clocks: dict[str, Clock] = {}
        self.windows: list[Window] = []
        self.skipped: list[str] = []
        self.broken: list[str] = []
        self.lags: list[tuple[float, float]] = []
        self.cancelled: set[int] = set()
        self.retried = 0
        self.reloads = 0
        self.giants = self.unsure_giants = 0

    async def command(self, *words: str) -> Finished:
        """Run an operator's command with the file of the first host, directly connected to Redis."""
        return await relay(*words, "-c", str(self.operator))

    @property
    def operator(self) -> Path:
        return self.folder / "operator.yaml"

    async def watch_masters(self) -> None:
        """Record unplanned failovers: on a busy machine, a slow master looks dead."""
        known: set[int] = set()
        while True:
            with suppress(RedisError, OSError, LookupError):
                now = {node.port for node in await asyncio.to_thread(self.topology.masters)}
                if known and now != known:
                    at = time.time()
                    self.windows.append(Window("fail over", at - 1, at, note=f"seen: {known} to {now}"))
                known = now
            await asyncio.sleep(0.25)  # only polling finds a new master

    def new_host(self, name: str) -> Host:
        """Add a host without starting it. With a single server it gets its own proxy."""
        proxy = self.proxies.get(name)
        url = proxy.url if proxy else self.topology.url
        host = Host(
            name,
            self.folder,
            self.configuration,
            self.topology.as_worker(url),
            self.receivers.urls,
            processes=2 if name == SUPERVISED else 1,
            log_pipe=name in LOG_PIPE_HOSTS,
            environ=self.clocks[name].environ() if name in self.clocks else None,
        )
        self.hosts[name] = host
        return host


@asynccontextmanager
async def running(plan: Plan, folder: Path) -> AsyncIterator[Harness]:
    """Yield the harness of a plan, ready for messages. At the end, remaining processes are killed."""
    folder.mkdir(parents=True, exist_ok=True)
    clocks: dict[str, Clock] = {}
    binary = None
    if library() and any(fault.name.startswith("step") for fault in plan.faults):
        clocks = {name: Clock(folder / f"{name}.clock") for name in ("redis", CLOCK_HOST)}
        binary = clocks["redis"].wrap(settable(), folder / "redis-server")
    topology = make_topology(plan.topology, folder, binary)
    receivers = Receivers(plan.seed)
    async with AsyncExitStack() as stack:
        stack.callback(topology.stop)
        await asyncio.to_thread(topology.start)
        stack.push_async_callback(receivers.close)
        await receivers.start()
        harness = Harness(plan, folder, topology, receivers)
        harness.clocks = clocks
        await _set_wrong_type_key(topology)
        if plan.topology == "single":
            for name in (*HOSTS, "w9"):
                port = topology.masters()[0].port
                harness.proxies[name] = await stack.enter_async_context(proxying(port))
        for watch in (watch_lag(harness.lags), harness.watch_masters()):
            stack.callback(asyncio.create_task(watch).cancel)
        stack.push_async_callback(_kill_all, harness)
        hosts = [harness.new_host(name) for name in HOSTS]
        operator = Host("operator", folder, harness.configuration, topology.url, receivers.urls)
        assert operator.config == harness.operator
        await asyncio.gather(*(host.start() for host in hosts))
        yield harness


async def _set_wrong_type_key(topology: Topology) -> None:
    """Store a string under a key that messages name in `reply_to`."""
    node = await asyncio.to_thread(topology.node_for, WRONG_TYPE_KEY)
    async with direct(node) as client:
        await client.set(WRONG_TYPE_KEY, "not a list")


async def _kill_all(harness: Harness) -> None:
    for host in harness.hosts.values():
        host.thaw()
        await host.kill()


async def watch_lag(lags: list[tuple[float, float]]) -> None:
    """Record when this process itself is late, because its timestamps are unreliable then."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(LAG_TICK)  # the measurement itself
        # All of the time: the process may have stopped as soon as it began to wait.
        lag = time.monotonic() - before
        if lag > 2 * LAG_TICK:
            lags.append((time.time(), lag))
