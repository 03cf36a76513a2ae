"""What providers do to us."""

from __future__ import annotations

from chaos.faults.base import Fault
from chaos.receivers import Receiver


class Misbehave(Fault):
    """The receiver answers as the fault's name says, to all or to a share of the requests."""

    @property
    def receiver(self) -> Receiver:
        return self.world.receivers.by_name[self.planned.target]

    async def start(self) -> None:
        self.receiver.share = max(0.2, self.planned.amount)
        self.receiver.mode = self.planned.name
        self.note = f"{self.receiver.share:.0%} of the requests"

    async def stop(self) -> None:
        self.receiver.mode, self.receiver.share = "", 1.0


class RefuseConnections(Misbehave):
    """Nobody listens."""

    async def start(self) -> None:
        await self.receiver.refuse()

    async def stop(self) -> None:
        await self.receiver.listen()


MODES = (
    *("server errors", "throttle", "slow answers", "hang", "garbage", "reset"),
    *("endless early hints", "endless headers", "dripping answer"),
)

PROVIDERS: dict[str, type[Fault]] = {
    **dict.fromkeys(MODES, Misbehave),
    "refuse connections": RefuseConnections,
}
