"""What happens to Redis itself."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AsyncExitStack, suppress

from redis.exceptions import RedisError

from chaos.faults.base import Fault
from chaos.faults.workers import step_clock
from chaos.topology import direct

ENDLESS = "while true do end"


class KillRedis(Fault):
    """SIGKILL, and a restart from its file."""

    async def start(self) -> None:
        await asyncio.to_thread(self.world.topology.masters()[0].kill)

    async def stop(self) -> None:
        await asyncio.to_thread(self.world.topology.masters()[0].start)


class FreezeRedis(Fault):
    """SIGSTOP and SIGCONT."""

    async def start(self) -> None:
        self.world.topology.masters()[0].signal(signal.SIGSTOP)

    async def stop(self) -> None:
        self.world.topology.masters()[0].signal(signal.SIGCONT)


class FlushScripts(Fault):
    """Redis forgets all scripts, several times."""

    async def start(self) -> None:
        for _ in range(4):
            await self.world.topology.each("SCRIPT", "FLUSH")
            await asyncio.sleep(0.05)  # long enough for some work in between


class KillClients(Fault):
    """Every connection is closed."""

    async def start(self) -> None:
        for _ in range(3):
            await self.world.topology.each("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.05)  # long enough for some work in between


class OutOfMemory(Fault):
    """No more room than is taken."""

    async def start(self) -> None:
        await self.world.topology.each("CONFIG", "SET", "maxmemory", "1mb")

    async def stop(self) -> None:
        await self.world.topology.each("CONFIG", "SET", "maxmemory", "0")


class BusyScript(Fault):
    """A script that somebody else started does not end until it is killed."""

    _running: list[asyncio.Task[None]]

    async def start(self) -> None:
        await self.world.topology.each("CONFIG", "SET", "lua-time-limit", "100")
        self._running = [
            asyncio.create_task(self._occupy(node))
            for node in await asyncio.to_thread(self.world.topology.masters)
        ]

    async def _occupy(self, node: object) -> None:
        with suppress(RedisError, OSError):
            async with direct(node) as client:  # type: ignore[arg-type]
                await client.eval(ENDLESS, 0)

    async def stop(self) -> None:
        await self.world.topology.each("SCRIPT", "KILL")
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


class NoRoomForClients(Fault):
    """Others have all connections when the workers want theirs back."""

    _stack: AsyncExitStack

    async def start(self) -> None:
        self._stack = AsyncExitStack()
        node = self.world.topology.masters()[0]
        # The one connection that stays is the one by which it is undone.
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
    """Redis answers nobody for a while."""

    async def start(self) -> None:
        await self.world.topology.each("CLIENT", "PAUSE", round(self.planned.seconds * 1000), "ALL")


class StepRedisClock(Fault):
    """Redis's clock is set, and set right again."""

    async def start(self) -> None:
        step_clock(self, "redis")

    async def stop(self) -> None:
        if clock := self.world.clocks.get("redis"):
            clock.set(0)


REDIS: dict[str, type[Fault]] = {
    "kill Redis": KillRedis,
    "freeze Redis": FreezeRedis,
    "flush scripts": FlushScripts,
    "kill clients": KillClients,
    "out of memory": OutOfMemory,
    "busy script": BusyScript,
    "no room for clients": NoRoomForClients,
    "pause clients": PauseClients,
    "step Redis clock": StepRedisClock,
}
