"""Letters: receipts and feedback, on their way from a lane to the keys that applications read.

The script that ends a message writes its letters into the lane's own slot. Any worker carries them on:
to a key that may lie in another slot, so that it cannot be one step. The key's own slot remembers which
letters came, so none comes twice; and they leave the outbox only when they have come, so none is lost.
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
"""Entries that an application's list keeps, and the feedback stream about: the newest."""

FORWARD_TIMEOUT = 30.0
"""Seconds after reading entries within which they may be forwarded."""


Kind = Literal["list", "stream"]
Forwarded = Literal["ok", "late", "stale", "wrong type", "no right", "wrong slot"]
"""The result of forwarding letters to one target. `late` and `stale`: nothing was done, read again. The last
three: the target cannot be written, and waiting does not change that."""


@dataclass(frozen=True, slots=True)
class Letters:
    """The oldest entries of an outbox, as (id, packed letter; empty if the entry has none). They may be
    forwarded until `deadline`, in Unix milliseconds by Redis's clock."""

    deadline: int
    letters: Sequence[tuple[str, bytes]]


class Outbox:
    """One lane's outbox. Every method raises StoreError."""

    def __init__(self, client: Client, prefix: str, provider: str, *, longest_list: int = LIMIT) -> None:
        self._client = client
        self._prefix = prefix
        self._provider = provider
        self._longest_list = longest_list
        # In a cluster the target may lie on another node; then replicas are waited for.
        self._topology = Topology.of(client)
        self._keys = LaneKeys.of(prefix, provider)
        self.key = self._keys.part("outbox")
        self.unreadable = self._keys.unreadable

    async def read(self, most: int = 100) -> Letters:
        """The oldest letters."""
        now, entries = await script("outbox").run(self._client, (self.key,), most)
        return Letters(
            now + round(FORWARD_TIMEOUT * 1000),
            [(entry.decode(), _packed(fields)) for entry, fields in entries],
        )

    async def move_unreadable(self, entries: Sequence[str]) -> None:
        """Move entries that hold no letter into a stream of their own, where people can look at them."""
        keys = (self.key, self.unreadable, self._keys.part("control"))
        await script("move_unreadable").run(self._client, keys, *entries)

    async def forward(
        self, target: str, kind: Kind, deadline: int, letters: Sequence[tuple[str, bytes]]
    ) -> Forwarded:
        """Put letters, the oldest first, into `target`; those that came before change nothing."""
        if not self._fits(target):
            return "wrong slot"
        words = [part for letter in letters for part in letter]
        try:
            return await self._run(target, kind, deadline, "keep", words)
        except StoreError as error:
            if _forbids_a_key(error):
                return "no right"
            raise

    async def forwarded(self, target: str, kind: Kind, deadline: int, last: str) -> None:
        """Tell the target that its letters up to `last` have left the outbox."""
        await self._run(target, kind, deadline, "done", [last])

    def replicated(self, target: str) -> str:
        """A key of ours in the slot of `target`, to see what was forwarded there arrive at a replica."""
        return key_beside(self._prefix, target, "replicated")

    async def forget(self, last: str, forwarded: Mapping[str, str], lost: int = 0) -> bool:
        """Drop the letters up to `last`; `forwarded` has the last letter that each target got, and `lost` of
        them could go nowhere.

        Returns False if a failover has undone that. Repeating it changes nothing.
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
        """Whether relay's key for `target` is in its slot, which odd braces make impossible."""
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
    """The letter among the fields of an entry; empty if there is none."""
    return dict(zip(fields[::2], fields[1::2], strict=False)).get(b"letter", b"")


def _forbids_a_key(error: StoreError) -> bool:
    """Whether the user of `redis.url` may run the script, and may not touch one of its keys."""
    cause = error.__cause__
    return isinstance(cause, NoPermissionError) and "command" not in str(cause)


class Outboxes(Mapping[str, Outbox]):
    """The outboxes of all lanes, by provider."""

    def __init__(
        self, client: Client, prefix: str, providers: Iterable[str], *, longest_list: int = LIMIT
    ) -> None:
        self.feedback = FleetKeys(prefix).feedback
        """The stream that feedback goes to."""
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
        """The providers in whose outboxes letters lie, in one round trip. Raises StoreError."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for outbox in self._outboxes.values():
                    pipe.xlen(outbox.key)
                # An outbox that cannot be read counts as filled: its forwarder logs the reason.
                lengths = await pipe.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            raise StoreError(describe(error)) from error
        return [provider for provider, length in zip(self._outboxes, lengths, strict=True) if length]
