"""Forwards receipts and feedback from the lanes' outboxes to the keys that applications read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import msgspec
import structlog

from relay.engine.parts import Parts
from relay.engine.repeats import redis_trouble, thinned
from relay.errors import StoreError
from relay.redis_client.replication import Replicas
from relay.store import outbox_entries
from relay.store.outbox import Forwarded, Kind, Outbox, Outboxes
from relay.store.outbox_entries import FeedbackEntry, ReceiptEntry

LOST: Final[Mapping[Forwarded, str]] = {
    "wrong type": "the key holds something else",
    "no right": "the user of redis.url may not write to this key",
    "wrong slot": "braces in this key's name put it into a slot that one step cannot update in a cluster",
}
"""Why entries for a target are dropped: waiting would delay the entries for all other targets."""

LOSS: Final = "receipts or feedback are lost"

ResultT = TypeVar("ResultT")

Entries = Sequence[tuple[str, bytes]]
"""Pairs of id and content, in their order."""

logger = structlog.get_logger()
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class ForwardTuning:
    """Durations are in seconds."""

    poll: float = 15.0
    """Wait between two polls of all outboxes, for entries that a dead worker has written."""


class Forwarder:
    """The loop of one process over all lanes; `forward` is its step."""

    def __init__(
        self,
        outboxes: Outboxes,
        replicas: Replicas,
        parts: Parts | None = None,
        *,
        tuning: ForwardTuning = ForwardTuning(),
    ) -> None:
        self._outboxes = outboxes
        self._replicas = replicas
        self._parts = parts or Parts()
        self._tuning = tuning
        self._notified: set[str] = set(outboxes)
        self._wakeup = asyncio.Event()
        self._wakeup.set()

    def notify(self, provider: str) -> None:
        """Forward the outbox of this lane soon."""
        self._notified.add(provider)
        self._wakeup.set()

    async def run(self) -> None:
        """Forward until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._tuning.poll):
                    await self._wakeup.wait()
            except TimeoutError:
                await self._poll()
            self._wakeup.clear()
            providers, self._notified = self._notified, set()
            while providers:
                # Alternate, so that an outbox that is never empty delays no other.
                for provider in sorted(providers):
                    if not await self._parts.attempt(
                        f"outbox {provider}", partial(self._forward_or_log, provider)
                    ):
                        providers.discard(provider)
                providers |= self._notified
                self._notified = set()

    async def _forward_or_log(self, provider: str) -> int:
        try:
            return await self.forward(provider)
        except StoreError as error:
            redis_trouble.log("cannot forward receipts", error, of=provider)
            return 0

    async def _poll(self) -> None:
        try:
            self._notified.update(await self._outboxes.filled())
        except StoreError as error:
            redis_trouble.log("cannot check outboxes", error)

    async def forward(self, provider: str) -> int:
        """Forward the oldest entries of a lane's outbox. Returns their number. Raises StoreError."""
        outbox = self._outboxes[provider]
        page = await outbox.read()
        if not page.entries:
            return 0
        by_target, unreadable = self._sort(provider, page.entries)
        if unreadable:
            await self._move_unreadable(provider, outbox, unreadable)
        results = await _all(
            outbox.forward(target, kind, page.deadline, entries)
            for (target, kind), entries in by_target.items()
        )
        arrived: list[tuple[str, Kind, str]] = []
        lost = 0
        for ((target, kind), entries), result in zip(by_target.items(), results, strict=True):
            match result:
                case "late":
                    return 0
                case "stale":
                    return 1
                case "ok":
                    arrived.append((target, kind, entries[-1][0]))
                case _:
                    lost += len(entries)
                    self._report_loss(provider, LOST[result], len(entries), key=target)
        await _all(self._replicas.wait_for_replica(outbox.replicated(target)) for target, _, _ in arrived)
        if await outbox.forget(page.entries[-1][0], {target: last for target, _, last in arrived}, lost):
            await _all(outbox.forwarded(target, kind, page.deadline, last) for target, kind, last in arrived)
        return len(page.entries)

    def _sort(self, provider: str, entries: Entries) -> tuple[Mapping[tuple[str, Kind], Entries], Entries]:
        """Return the entries as applications read them, by target, and the unreadable ones as they are."""
        by_target: dict[tuple[str, Kind], list[tuple[str, bytes]]] = {}
        unreadable: list[tuple[str, bytes]] = []
        for entry_id, packed in entries:
            match entry := outbox_entries.decode(packed):
                case ReceiptEntry():
                    text = msgspec.json.encode(outbox_entries.receipt(provider, entry))
                    by_target.setdefault((entry.reply_to, "list"), []).append((entry_id, text))
                case FeedbackEntry():
                    fields = outbox_entries.feedback(provider, entry)
                    text = _pack([part for pair in fields.items() for part in pair])
                    by_target.setdefault((self._outboxes.feedback, "stream"), []).append((entry_id, text))
                case None:
                    unreadable.append((entry_id, packed))
        return by_target, unreadable

    def _report_loss(self, provider: str, reason: str, number: int, **example: str) -> None:
        thinned.log("error", LOSS, provider, reason, number, provider=provider, **example)

    async def _move_unreadable(self, provider: str, outbox: Outbox, entries: Entries) -> None:
        await outbox.move_unreadable([entry_id for entry_id, _ in entries])
        entry_id, packed = entries[0]
        self._report_loss(
            provider,
            "this version cannot read an entry of the outbox",
            len(entries),
            entry=entry_id,
            content=repr(packed[:200]),
            moved_to=outbox.unreadable,
        )


async def _all(calls: Iterable[Awaitable[ResultT]]) -> list[ResultT]:
    # The first failure is raised after all have ended, so that none continues in the background.
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[ResultT] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
