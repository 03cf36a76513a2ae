"""Carries receipts and feedback from the lanes' outboxes to the keys that applications read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Literal, TypeVar

import msgspec
import structlog

from relay.errors import StoreError
from relay.store.outbox import Outboxes
from relay.store.replication import Replicas

INTERVAL = 15.0
"""Seconds between two looks at outboxes that nobody called us to: those of workers that died."""

ResultT = TypeVar("ResultT")

logger = structlog.get_logger()
_unpack = msgspec.msgpack.Decoder(list).decode
_pack = msgspec.msgpack.Encoder().encode


class Courier:
    """The loop of one process over all lanes; `carry` is its step."""

    def __init__(self, feedback: str, outboxes: Outboxes, replicas: Replicas) -> None:
        """`feedback` is the key of the feedback stream."""
        self._replicas = replicas
        self._feedback = feedback
        self._outboxes = outboxes
        self._calls: set[str] = set(outboxes)
        self._called = asyncio.Event()
        self._called.set()

    def call(self, provider: str) -> None:
        """There are letters in this lane's outbox."""
        self._calls.add(provider)
        self._called.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._called.wait()
            except TimeoutError:
                await self._look()
            self._called.clear()
            calls, self._calls = self._calls, set()
            for provider in calls:
                try:
                    while await self.carry(provider):
                        pass
                except StoreError as error:
                    logger.warning("cannot carry receipts", provider=provider, error=str(error))

    async def _look(self) -> None:
        try:
            self._calls.update(await self._outboxes.filled())
        except StoreError as error:
            logger.warning("cannot look for receipts", error=str(error))

    async def carry(self, provider: str) -> int:
        """Carry the oldest letters of a lane; how many. Raises StoreError."""
        outbox = self._outboxes[provider]
        read = await outbox.read()
        if not read.letters:
            return 0
        # Each list gets its own in their order; which list is first does not matter.
        by_target: dict[tuple[str, Literal["list", "stream"]], list[tuple[str, bytes]]] = {}
        for letter_id, packed in read.letters:
            letter = _unpack(packed)
            if letter[0] == "receipt":
                text = msgspec.json.encode(receipt(provider, letter))
                by_target.setdefault((letter[1], "list"), []).append((letter_id, text))
            else:
                text = _pack([part for pair in feedback(provider, letter).items() for part in pair])
                by_target.setdefault((self._feedback, "stream"), []).append((letter_id, text))
        results = await _all(
            outbox.carry(target, kind, read.deadline, letters)
            for (target, kind), letters in by_target.items()
        )
        for (target, _), result in zip(by_target, results, strict=True):
            if result == "late":
                return 0
            if result == "stale":
                return 1
            if result == "wrong type":
                logger.warning("the key that receipts go to holds something else: they are lost", key=target)
        await _all(self._replicas.follow(outbox.replicated(target)) for target, _ in by_target)
        came = {
            (target, kind): letters[-1][0]
            for ((target, kind), letters), result in zip(by_target.items(), results, strict=True)
            if result == "ok"
        }
        if await outbox.forget(read.letters[-1][0], {target: last for (target, _), last in came.items()}):
            await _all(
                outbox.carried(target, kind, read.deadline, last) for (target, kind), last in came.items()
            )
        return len(read.letters)


def receipt(provider: str, letter: list[object]) -> dict[str, object]:
    """What an application reads of a message that ended. `at` is in Unix seconds."""
    _, _, message_id, outcome, reason, attempts, at, *fan_out = letter
    told: dict[str, object] = {
        "id": message_id,
        "provider": provider,
        "outcome": outcome,
        "reason": reason,
        "attempts": attempts,
        "at": int(str(at)) / 1000,
    }
    if fan_out and isinstance(fan_out[0], dict):
        ended = dict(sorted(fan_out[0].items(), key=lambda item: -item[1]))
        told["reason"] = ", ".join(f"{number} {name}" for name, number in ended.items())
        told["targets"] = ended
    return told


def feedback(provider: str, letter: list[object]) -> dict[str, str]:
    """The fields of an entry of the feedback stream: a target that is gone."""
    _, target, reason, since, message_id = letter
    return {
        "provider": provider,
        "target": str(target),
        "reason": str(reason),
        "id": str(message_id),
        "since": str(since),
    }


async def _all(calls: Iterable[Awaitable[ResultT]]) -> list[ResultT]:
    # The first failure of them is raised once all have ended: none goes on behind our back.
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[ResultT] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
