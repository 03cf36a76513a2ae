"""All that runs: Redis, the receivers, the worker hosts and the ways between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from redis.exceptions import RedisError

from chaos.catalogue import CLOCK_HOST, HOSTS, LOG_PIPE_HOSTS, SUPERVISED
from chaos.clocks import Clock, library, settable
from chaos.evidence import Window
from chaos.fleet import Host
from chaos.messages import OCCUPIED_KEY
from chaos.plan import Plan
from chaos.receivers import Receivers
from chaos.setting import Setting
from chaos.topology import Topology, direct, make_topology
from testing.relay_process import Finished, relay
from testing.tcp_proxy import TcpProxy, proxying

LAG_TICK = 0.05


class World:
    """What faults lay hands on. `windows` says what they did and when."""

    def __init__(self, plan: Plan, folder: Path, topology: Topology, receivers: Receivers) -> None:
        self.plan = plan
        self.folder = folder
        self.topology = topology
        self.receivers = receivers
        self.setting = Setting.of(plan)
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
        """A command of an operator, with the file of the first host and straight to Redis."""
        return await relay(*words, "-c", str(self.operator))

    @property
    def operator(self) -> Path:
        return self.folder / "operator.yaml"

    async def watch_lag(self) -> None:
        """Note when this process is late itself: what it says about times is not to be trusted then."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_TICK)  # the thing measured
            lag = time.monotonic() - before - LAG_TICK
            if lag > LAG_TICK:
                self.lags.append((time.time(), lag))

    async def watch_masters(self) -> None:
        """Note when another node takes over that nobody told to: a busy machine looks like a dead one."""
        known: set[int] = set()
        while True:
            with suppress(RedisError, OSError, LookupError):
                now = {node.port for node in await asyncio.to_thread(self.topology.masters)}
                if known and now != known:
                    at = time.time()
                    self.windows.append(Window("fail over", at - 1, at, note=f"seen: {known} to {now}"))
                known = now
            await asyncio.sleep(0.25)  # only asking tells who the master is

    def new_host(self, name: str) -> Host:
        """One more host, with a proxy of its own where there is one server; it is not started."""
        proxy = self.proxies.get(name)
        url = proxy.url if proxy else self.topology.url
        host = Host(
            name,
            self.folder,
            self.setting,
            self.topology.as_worker(url),
            self.receivers.urls,
            processes=2 if name == SUPERVISED else 1,
            log_pipe=name in LOG_PIPE_HOSTS,
            environ=self.clocks[name].environ() if name in self.clocks else None,
        )
        self.hosts[name] = host
        return host


@asynccontextmanager
async def running(plan: Plan, folder: Path) -> AsyncIterator[World]:
    """The world of a plan, ready for messages; whatever still lives at the end is killed."""
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
        world = World(plan, folder, topology, receivers)
        world.clocks = clocks
        await _occupy(topology)
        if plan.topology == "single":
            for name in (*HOSTS, "w9"):
                port = topology.masters()[0].port
                world.proxies[name] = await stack.enter_async_context(proxying(port))
        for watch in (world.watch_lag(), world.watch_masters()):
            stack.callback(asyncio.create_task(watch).cancel)
        stack.push_async_callback(_kill_all, world)
        hosts = [world.new_host(name) for name in HOSTS]
        operator = Host("operator", folder, world.setting, topology.url, receivers.urls)
        assert operator.config == world.operator
        await asyncio.gather(*(host.start() for host in hosts))
        yield world


async def _occupy(topology: Topology) -> None:
    """Put a string under a key that messages name for their receipts."""
    node = await asyncio.to_thread(topology.node_for, OCCUPIED_KEY)
    async with direct(node) as client:
        await client.set(OCCUPIED_KEY, "not a list")


async def _kill_all(world: World) -> None:
    for host in world.hosts.values():
        host.thaw()
        await host.kill()
