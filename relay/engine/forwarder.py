"""Carries receipts and feedback from the lanes' outboxes to the keys that applications read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec
import structlog

from relay.engine.parts import Parts
from relay.engine.repeats import redis_trouble, thinned
from relay.errors import StoreError
from relay.redis_client.replication import Replicas
from relay.store import letters
from relay.store.outbox import Forwarded, Kind, Outbox, Outboxes

INTERVAL = 15.0
"""Seconds between two looks at outboxes that nobody called us to: those of workers that died."""

LOG_INTERVAL = 30.0
"""Seconds between two log lines about the same provider and reason."""

LOST: Final[Mapping[Forwarded, str]] = {
    "wrong type": "the key holds something else",
    "no right": "the user of redis.url may not write to this key",
    "wrong slot": "braces in this key's name put it where a cluster cannot update it in one step",
}
"""Why the letters for a target go nowhere: waiting would hold up those for all others."""

LOSS: Final = "receipts or feedback are lost"

ResultT = TypeVar("ResultT")

logger = structlog.get_logger()
_pack = msgspec.msgpack.Encoder().encode


class Forwarder:
    """The loop of one process over all lanes; `forward` is its step."""

    def __init__(
        self,
        outboxes: Outboxes,
        replicas: Replicas,
        parts: Parts | None = None,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._interval = interval
        self._replicas = replicas
        self._parts = parts or Parts()
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
                async with asyncio.timeout(self._interval):
                    await self._called.wait()
            except TimeoutError:
                await self._look()
            self._called.clear()
            calls, self._calls = self._calls, set()
            while calls:
                # In turns: a lane whose outbox fills as fast as it is emptied holds up no other.
                for provider in sorted(calls):
                    if not await self._parts.attempt(
                        f"outbox {provider}", partial(self._carry_some, provider)
                    ):
                        calls.discard(provider)
                calls |= self._calls
                self._calls = set()

    async def _carry_some(self, provider: str) -> int:
        try:
            return await self.forward(provider)
        except StoreError as error:
            redis_trouble.log("cannot forward receipts", error, of=provider)
            return 0

    async def _look(self) -> None:
        try:
            self._calls.update(await self._outboxes.filled())
        except StoreError as error:
            redis_trouble.log("cannot check outboxes", error)

    async def forward(self, provider: str) -> int:
        """Carry the oldest letters of a lane; how many. Raises StoreError."""
        outbox = self._outboxes[provider]
        read = await outbox.read()
        if not read.letters:
            return 0
        # Each list gets its own in their order; which list is first does not matter.
        by_target: dict[tuple[str, Kind], list[tuple[str, bytes]]] = {}
        unreadable: list[tuple[str, bytes]] = []
        for letter_id, packed in read.letters:
            match letter := letters.read(packed):
                case letters.ReceiptLetter():
                    text = msgspec.json.encode(letters.receipt(provider, letter))
                    by_target.setdefault((letter.reply_to, "list"), []).append((letter_id, text))
                case letters.FeedbackLetter():
                    fields = letters.feedback(provider, letter)
                    text = _pack([part for pair in fields.items() for part in pair])
                    by_target.setdefault((self._outboxes.feedback, "stream"), []).append((letter_id, text))
                case None:
                    unreadable.append((letter_id, packed))
        if unreadable:
            await self._move_unreadable(provider, outbox, unreadable)
        results = await _all(
            outbox.forward(target, kind, read.deadline, its_letters)
            for (target, kind), its_letters in by_target.items()
        )
        came: list[tuple[str, Kind, str]] = []
        lost = 0
        for ((target, kind), its_letters), result in zip(by_target.items(), results, strict=True):
            match result:
                case "late":
                    return 0
                case "stale":
                    return 1
                case "ok":
                    came.append((target, kind, its_letters[-1][0]))
                case _:
                    lost += len(its_letters)
                    self._report_loss(provider, LOST[result], len(its_letters), key=target)
        await _all(self._replicas.wait_for_replica(outbox.replicated(target)) for target, _, _ in came)
        if await outbox.forget(read.letters[-1][0], {target: last for target, _, last in came}, lost):
            await _all(outbox.forwarded(target, kind, read.deadline, last) for target, kind, last in came)
        return len(read.letters)

    def _report_loss(self, provider: str, why: str, number: int, **example: str) -> None:
        thinned.log("error", LOSS, provider, why, number, provider=provider, **example)

    async def _move_unreadable(
        self, provider: str, outbox: Outbox, unreadable: Sequence[tuple[str, bytes]]
    ) -> None:
        await outbox.move_unreadable([letter_id for letter_id, _ in unreadable])
        letter_id, packed = unreadable[0]
        self._report_loss(
            provider,
            "an entry of the outbox holds no letter that this version can read",
            len(unreadable),
            entry=letter_id,
            letter=repr(packed[:200]),
            moved_to=outbox.unreadable,
        )


async def _all(calls: Iterable[Awaitable[ResultT]]) -> list[ResultT]:
    # The first failure of them is raised once all have ended: none goes on behind our back.
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[ResultT] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
