"""The outbox of a lane: receipts and feedback on their way to the keys that applications read.

The script that ends a message writes its entries into the lane's own slot. Any worker forwards them. The
target may be in another slot, so this takes several steps: the target's slot records the last entry that
arrived, so that none arrives twice, and entries leave the outbox only afterwards, so that none is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redis.exceptions import NoPermissionError

from relay.errors import StoreError
from relay.names import key_beside
from relay.redis_client.client import REDIS_ERRORS, Client, describe
from relay.redis_client.topology import Topology
from relay.store.keys import FleetKeys, LaneKeys
from relay.store.scripting import script

LIMIT = 100_000
"""The newest entries that an application's list keeps; for the feedback stream approximately."""

FORWARD_TIMEOUT = 30.0
"""Seconds after reading entries within which they may be forwarded."""


Kind = Literal["list", "stream"]
Forwarded = Literal["ok", "late", "stale", "wrong type", "no right", "wrong slot"]
"""The result of forwarding entries to one target. `late` and `stale`: nothing was written, so read again. The
last three: the target cannot be written, and waiting does not change that."""


@dataclass(frozen=True, slots=True)
class Page:
    """The oldest entries of an outbox, as (id, encoded entry; empty if it has none). They may be forwarded
    until `deadline`, in Unix milliseconds by Redis's clock."""

    deadline: int
    entries: Sequence[tuple[str, bytes]]


class Outbox:
    """One lane's outbox. Every method raises StoreError."""

    def __init__(self, client: Client, prefix: str, provider: str, *, longest_list: int = LIMIT) -> None:
        self._client = client
        self._prefix = prefix
        self._provider = provider
        self._longest_list = longest_list
        # In a cluster the target may be on another node, so forwarding waits for replicas.
        self._topology = Topology.of(client)
        self._keys = LaneKeys.of(prefix, provider)
        self.key = self._keys.part("outbox")
        self.unreadable = self._keys.unreadable

    async def read(self, most: int = 100) -> Page:
        """Return the oldest entries."""
        now, entries = await script("outbox").run(self._client, (self.key,), most)
        return Page(
            now + round(FORWARD_TIMEOUT * 1000),
            [(entry.decode(), _packed(fields)) for entry, fields in entries],
        )

    async def move_unreadable(self, entries: Sequence[str]) -> None:
        """Move unreadable entries into a stream of their own, where people can inspect them."""
        keys = (self.key, self.unreadable, self._keys.part("control"))
        await script("move_unreadable").run(self._client, keys, *entries)

    async def forward(
        self, target: str, kind: Kind, deadline: int, entries: Sequence[tuple[str, bytes]]
    ) -> Forwarded:
        """Append entries, the oldest first, to `target`, except those that it already has."""
        if not self._fits(target):
            return "wrong slot"
        words = [part for entry in entries for part in entry]
        try:
            return await self._run(target, kind, deadline, "keep", words)
        except StoreError as error:
            if _forbids_a_key(error):
                return "no right"
            raise

    async def forwarded(self, target: str, kind: Kind, deadline: int, last: str) -> None:
        """Record in the slot of the target that its entries up to `last` have left the outbox."""
        await self._run(target, kind, deadline, "done", [last])

    def replicated(self, target: str) -> str:
        """Return the key in the slot of `target` by which a replica confirms forwarded entries."""
        return key_beside(self._prefix, target, "replicated")

    async def forget(self, last: str, forwarded: Mapping[str, str], lost: int = 0) -> bool:
        """Delete the entries up to `last`. `forwarded` has the last entry of each target, and `lost` of them
        could not be forwarded.

        Returns False if a failover has undone the forwarding. It may be repeated.
        """
        milliseconds, _, sequence = last.partition("-")
        known = forwarded if self._topology.is_one else {}
        reply: int = await script("forget").run(
            self._client,
            (
                self.key,
                self._keys.part("control"),
                *(key_beside(self._prefix, target, "forwarded") for target in known),
            ),
            f"{milliseconds}-{int(sequence) + 1}",
            self._provider,
            lost,
            *known.values(),
        )
        return bool(reply)

    def _fits(self, target: str) -> bool:
        """Return whether relay's key for `target` is in the same slot. Braces in the name can prevent
        that."""
        return self._topology.same_slot(target, key_beside(self._prefix, target, "forwarded"))

    async def _run(
        self, target: str, kind: Kind, deadline: int, mode: str, words: Sequence[str | bytes]
    ) -> Forwarded:
        outbox = (self.key,) if self._topology.is_one else ()
        keys = (target, key_beside(self._prefix, target, "forwarded"), *outbox)
        reply: bytes = await script("forward").run(
            self._client, keys, self._provider, deadline, self._longest_list, kind, mode, *words
        )
        result: Forwarded = reply.decode()  # type: ignore[assignment]  # the script has no other replies
        return result


def _packed(fields: Sequence[bytes]) -> bytes:
    """Return the field that holds the entry, or nothing if it is missing."""
    return dict(zip(fields[::2], fields[1::2], strict=False)).get(b"letter", b"")


def _forbids_a_key(error: StoreError) -> bool:
    """Return whether the user of `redis.url` may run the script, but not use one of its keys."""
    cause = error.__cause__
    return isinstance(cause, NoPermissionError) and "command" not in str(cause)


class Outboxes(Mapping[str, Outbox]):
    """The outboxes of all lanes, by provider."""

    def __init__(
        self, client: Client, prefix: str, providers: Iterable[str], *, longest_list: int = LIMIT
    ) -> None:
        self.feedback = FleetKeys(prefix).feedback
        """The stream for feedback."""
        self._client = client
        self._outboxes = {
            provider: Outbox(client, prefix, provider, longest_list=longest_list) for provider in providers
        }

    def __getitem__(self, provider: str) -> Outbox:
        return self._outboxes[provider]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outboxes)

    def __len__(self) -> int:
        return len(self._outboxes)

    async def filled(self) -> list[str]:
        """Return the providers whose outboxes have entries, in one round trip. Raises StoreError."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for outbox in self._outboxes.values():
                    pipe.xlen(outbox.key)
                # An outbox that cannot be read counts as filled: its forwarder logs the reason.
                lengths = await pipe.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error
        return [provider for provider, length in zip(self._outboxes, lengths, strict=True) if length]
