"""Faults of providers."""

from __future__ import annotations

from chaos.faults.base import Fault
from chaos.receivers import Receiver


class ReceiverFault(Fault):
    """The receiver misbehaves as the fault's name says, for all or for a share of the requests."""

    @property
    def receiver(self) -> Receiver:
        return self.harness.receivers.by_name[self.planned.target]

    async def start(self) -> None:
        self.receiver.share = max(0.2, self.planned.amount)
        self.receiver.mode = self.planned.name
        self.note = f"{self.receiver.share:.0%} of the requests"

    async def stop(self) -> None:
        self.receiver.mode, self.receiver.share = "", 1.0


class RefuseConnections(ReceiverFault):
    """No process listens."""

    async def start(self) -> None:
        await self.receiver.refuse()

    async def stop(self) -> None:
        await self.receiver.listen()


MODES = (
    *("server errors", "throttle", "slow answers", "hang", "garbage", "reset"),
    *("endless early hints", "endless headers", "dripping answer"),
)

PROVIDERS: dict[str, type[Fault]] = {
    **dict.fromkeys(MODES, ReceiverFault),
    "refuse connections": RefuseConnections,
}
