"""Carries receipts and feedback from the lanes' outboxes to the keys that applications read.

The settle script writes them into the lane's own slot together with the outcome, so that none is
lost or invented; a crash between carrying and forgetting repeats one at worst.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import structlog

from relay.errors import StoreError
from relay.store.fleet import Fleet
from relay.store.lane import Lane

INTERVAL = 5.0
"""Seconds between two looks at outboxes that nobody called us to."""

logger = structlog.get_logger()
_unpack = msgspec.msgpack.Decoder(list).decode


class Courier:
    """The loop of one process over all lanes; `carry` is its step."""

    def __init__(self, fleet: Fleet, lanes: Mapping[str, Lane], called: asyncio.Event) -> None:
        self._fleet = fleet
        self._lanes = lanes
        self._called = called

    async def run(self) -> None:
        """Carry until cancelled."""
        while True:
            self._called.clear()
            try:
                for lane in self._lanes.values():
                    while await self.carry(lane):
                        pass
            except StoreError as error:
                logger.warning("cannot carry receipts", error=str(error))
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._called.wait()
            except TimeoutError:
                continue

    async def carry(self, lane: Lane) -> int:
        """Carry the oldest letters of a lane; how many. Raises StoreError."""
        letters = [_unpack(letter) for letter in await lane.outbox()]
        if not letters:
            return 0
        receipts = [
            (letter[1], _receipt(lane.provider, letter)) for letter in letters if letter[0] == "receipt"
        ]
        feedback = [_feedback(lane.provider, letter) for letter in letters if letter[0] == "feedback"]
        await self._fleet.deliver_letters(receipts, feedback)
        await lane.forget_outbox(len(letters))
        return len(letters)


def _receipt(provider: str, letter: list[object]) -> bytes:
    _, _, message_id, outcome, reason, attempts, at = letter
    return msgspec.json.encode(
        {
            "id": message_id,
            "provider": provider,
            "outcome": outcome,
            "reason": reason,
            "attempts": attempts,
            "at": int(str(at)) / 1000,
        }
    )


def _feedback(provider: str, letter: list[object]) -> dict[str, str]:
    _, target, reason, since, message_id = letter
    return {
        "provider": provider,
        "target": str(target),
        "reason": str(reason),
        "id": str(message_id),
        "since": str(since),
    }
