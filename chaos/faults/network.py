"""Faults of the network between one host and Redis."""

from __future__ import annotations

from chaos.faults.base import Fault
from testing.tcp_proxy import TcpProxy


class NetworkFault(Fault):
    """A fault of one host's connection to Redis."""

    @property
    def proxy(self) -> TcpProxy:
        return self.harness.proxies[self.planned.target]

    async def stop(self) -> None:
        self.proxy.heal()


class Cut(NetworkFault):
    async def start(self) -> None:
        self.proxy.cut()


class Stall(NetworkFault):
    async def start(self) -> None:
        self.proxy.stall()


class LoseAnswers(NetworkFault):
    """Redis runs every command, but no answer arrives."""

    async def start(self) -> None:
        self.proxy.lose_answers()

    async def stop(self) -> None:
        self.proxy.reset()
        self.proxy.heal()


class Delay(NetworkFault):
    async def start(self) -> None:
        self.proxy.delay(0.02 + 0.3 * self.planned.amount)


NETWORK: dict[str, type[Fault]] = {
    "cut": Cut,
    "stall": Stall,
    "stall beyond lease": Stall,
    "lose answers": LoseAnswers,
    "delay": Delay,
}
