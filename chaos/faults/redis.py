"""Faults of Redis itself."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

from redis.exceptions import RedisError

from chaos.faults.base import Fault
from chaos.faults.workers import step_clock
from chaos.topology import direct

ENDLESS = "while true do end"


class KillRedis(Fault):
    """SIGKILL, and a restart with the same data."""

    async def start(self) -> None:
        await asyncio.to_thread(self.harness.topology.masters()[0].kill)

    async def stop(self) -> None:
        await asyncio.to_thread(self.harness.topology.masters()[0].start)


class FreezeRedis(Fault):
    """SIGSTOP and SIGCONT."""

    async def start(self) -> None:
        self.harness.topology.masters()[0].signal(signal.SIGSTOP)

    async def stop(self) -> None:
        self.harness.topology.masters()[0].signal(signal.SIGCONT)


class FlushScripts(Fault):
    """SCRIPT FLUSH, several times."""

    async def start(self) -> None:
        for _ in range(4):
            await self.harness.topology.each("SCRIPT", "FLUSH")
            await asyncio.sleep(0.05)  # long enough for some work in between


class KillClients(Fault):
    """All client connections are closed."""

    async def start(self) -> None:
        for _ in range(3):
            await self.harness.topology.each("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.05)  # long enough for some work in between


class OutOfMemory(Fault):
    """maxmemory is the memory that Redis uses at the moment."""

    async def start(self) -> None:
        await self.harness.topology.each("CONFIG", "SET", "maxmemory", "1mb")

    async def stop(self) -> None:
        await self.harness.topology.each("CONFIG", "SET", "maxmemory", "0")


class BusyScript(Fault):
    """A script of another client runs until it is killed."""

    _running: Sequence[asyncio.Task[None]] = ()

    async def start(self) -> None:
        await self.harness.topology.each("CONFIG", "SET", "lua-time-limit", "100")
        self._running = [
            asyncio.create_task(self._occupy(node))
            for node in await asyncio.to_thread(self.harness.topology.masters)
        ]

    async def _occupy(self, node: object) -> None:
        with suppress(RedisError, OSError):
            async with direct(node) as client:  # type: ignore[arg-type]
                await client.eval(ENDLESS, 0)

    async def stop(self) -> None:
        running = set(self._running)
        while running:
            # On a busy machine the script may start only now, so one SCRIPT KILL could come too early.
            with suppress(RedisError, OSError):
                await self.harness.topology.each("SCRIPT", "KILL")
            _, running = await asyncio.wait(running, timeout=0.1)


class TooManyClients(Fault):
    """Other clients occupy all connections when the workers reconnect."""

    _stack: AsyncExitStack

    async def start(self) -> None:
        self._stack = AsyncExitStack()
        node = self.harness.topology.masters()[0]
        # The harness needs its own connection to undo the fault.
        client = await self._stack.enter_async_context(direct(node))
        await client.config_set("maxclients", 6)
        self._stack.push_async_callback(client.config_set, "maxclients", 10_000)
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for _ in range(6):
            taken = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", node.port))
            self._stack.callback(taken.close)

    async def stop(self) -> None:
        await self._stack.aclose()


class PauseClients(Fault):
    """Redis answers no client for a while."""

    async def start(self) -> None:
        await self.harness.topology.each("CLIENT", "PAUSE", round(self.planned.seconds * 1000), "ALL")


class StepRedisClock(Fault):
    """Redis's clock is stepped, and later set right."""

    async def start(self) -> None:
        step_clock(self, "redis")

    async def stop(self) -> None:
        if clock := self.harness.clocks.get("redis"):
            clock.set(0)


REDIS: dict[str, type[Fault]] = {
    "kill Redis": KillRedis,
    "freeze Redis": FreezeRedis,
    "flush scripts": FlushScripts,
    "kill clients": KillClients,
    "out of memory": OutOfMemory,
    "busy script": BusyScript,
    "too many clients": TooManyClients,
    "pause clients": PauseClients,
    "step Redis clock": StepRedisClock,
}
