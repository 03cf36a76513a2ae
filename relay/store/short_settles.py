"""Short scripts for settles in which every message was delivered: most of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from relay.store import codec
from relay.store.codec import Settled
from relay.store.settlement import Settlement

LONG_SETTLES = 50
"""The number of settles that use the full script after groups with a state have refused the short one."""


class ShortSettles:
    """Settles deliveries of one lane whose records no script has to read."""

    def __init__(
        self, inflight: str, run: Callable[..., Coroutine[Any, Any, tuple[Any, bool]]], *, lifo: bool
    ) -> None:
        """`inflight` is the key of the messages that the worker holds; `run` runs a script of the lane."""
        self._inflight = inflight
        self._run = run
        self._lifo = lifo
        self._long_settles = 0
        """The number of settles that go the long way, because groups have a state."""

    async def settle(self, settlements: Sequence[Settlement], *, has_groups: bool) -> Settled | None:
        """Settle deliveries the short way. Returns None, and changes nothing, if that is not possible.

        Raises StoreError.
        """
        if has_groups and self._long_settles:
            self._long_settles -= 1
            return None
        if plain := codec.encode_plain(settlements):
            name = "settle_plain_groups" if has_groups else "settle_plain"
            settled = await self._call(name, *plain)
        elif targets := codec.encode_targets(settlements):
            settled = await self._call("settle_targets", int(self._lifo), *targets)
        else:
            return None
        if settled is None and has_groups:
            self._long_settles = LONG_SETTLES
        return settled

    async def _call(self, name: str, *arguments: bytes | int) -> Settled | None:
        reply, _ = await self._run(name, (self._inflight,), *arguments)
        return None if reply is None else codec.plainly_settled(reply)
