"""Faults of providers."""

from __future__ import annotations

from typing import ClassVar

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


class SickGroup(ReceiverFault):
    """The receiver of one group answers all of its requests like this."""

    MODES: ClassVar = {
        "group hangs": "hang",
        "group throttles": "throttle",
        "group answers with errors": "server errors",
    }

    async def start(self) -> None:
        self.receiver.mode = self.MODES[self.planned.name]


MODES = (
    *("server errors", "throttle", "slow answers", "hang", "garbage", "reset"),
    *("endless early hints", "endless headers", "dripping answer"),
)

PROVIDERS: dict[str, type[Fault]] = {
    **dict.fromkeys(MODES, ReceiverFault),
    "refuse connections": RefuseConnections,
    "group refuses connections": RefuseConnections,
    **dict.fromkeys(SickGroup.MODES, SickGroup),
}
