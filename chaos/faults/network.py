"""What happens between one host and Redis."""

from __future__ import annotations

from chaos.faults.base import Fault
from testing.tcp_proxy import TcpProxy


class OfWay(Fault):
    """A fault of one host's way to Redis."""

    @property
    def proxy(self) -> TcpProxy:
        return self.world.proxies[self.planned.target]

    async def stop(self) -> None:
        self.proxy.heal()


class Cut(OfWay):
    async def start(self) -> None:
        self.proxy.cut()


class Stall(OfWay):
    async def start(self) -> None:
        self.proxy.stall()


class LoseAnswers(OfWay):
    """Redis does what it is told, and nobody hears of it."""

    async def start(self) -> None:
        self.proxy.lose_answers()

    async def stop(self) -> None:
        self.proxy.reset()
        self.proxy.heal()


class Delay(OfWay):
    async def start(self) -> None:
        self.proxy.delay(0.02 + 0.3 * self.planned.amount)


NETWORK: dict[str, type[Fault]] = {
    "cut": Cut,
    "stall": Stall,
    "stall beyond lease": Stall,
    "lose answers": LoseAnswers,
    "delay": Delay,
}
